"""What training says about windows and requests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from services.training import handlers
from services.training.model import Asked, History, Window
from services.training.ports import Ports
from tidemill.bus.control import Meta, Parked, ToStream
from tidemill.errors import Rejected
from tidemill.events.monitoring import WindowAlert, WindowClosed
from tidemill.events.progress import Progress
from tidemill.events.spec import Applied
from tidemill.events.training import RetrainRequested, RunDeclined, RunRequested
from tidemill.spec import Bundle, load

BUNDLE = load(Path(__file__).parents[3] / "usecases" / "flights")
DAY = 86_400_000_000
HOUR = DAY // 24


@dataclass
class Memory:
    """All ports, in memory."""

    specs_: dict[str, Bundle] = field(default_factory=dict)
    windows: dict[int, Window] = field(default_factory=dict)
    told: History = field(default_factory=History)
    traces: list[str | None] = field(default_factory=list)

    def get(self, stream: str) -> Bundle | None:
        return self.specs_.get(stream)

    def put(self, what: str | Window, content: str = "") -> None:
        if isinstance(what, Window):
            self.windows[what.partition] = max(self.windows.get(what.partition, what), what, key=lambda window: window.end)
            self.told = replace(self.told, begin=self.told.begin or what.start)
        else:
            self.specs_[what] = Bundle.from_json(content)

    def newest(self, stream: str, model: str) -> list[Window]:
        return sorted(self.windows.values(), key=lambda window: -window.end)

    def history(self, stream: str, model: str) -> History:
        return self.told

    def request(self, run: RunRequested, traceparent: str | None) -> None:
        asked = Asked(run.run, run.at_time, run.effective_at, open=True)
        self.told = replace(self.told, runs=(*self.told.runs, asked), served=self.told.served | {run.cause_id})
        self.traces.append(traceparent)

    def decline(self, stream: str, model: str, cause_id: str) -> None:
        self.told = replace(self.told, declined=self.told.declined | {cause_id})

    def close(self, run: str, state: str) -> None:
        self.told = replace(self.told, runs=tuple(replace(one, open=one.open and one.run != run) for one in self.told.runs))

    def ports(self, event_id: str = "event") -> Ports:
        return Ports(self, self, self, Meta(event_id, 0, 0, traceparent="00-trace"))


@pytest.fixture
def memory() -> Memory:
    found = Memory()
    handlers.on_applied(
        Applied(stream="flights", digest=BUNDLE.digest, author="ann", content=BUNDLE.to_json(), applied_at=0), found.ports()
    )
    return found


def closed(
    day: int, labels: int = 0, *alerts: WindowAlert, champion: int | None = None, model: str = "late-arrival", shard: int = 0
) -> WindowClosed:
    return WindowClosed(
        stream="flights", model=model, partition=shard, window_start=(day - 1) * DAY, window_end=day * DAY, position=day * 100,
        champion=champion, predictions=0, scored=0, outcomes=0, outcomes_total=labels, unlabelled=0, score_quantiles=[],
        metrics={}, shadow_metrics={}, psi={}, missing={}, alerts=list(alerts), ended=False,
    )  # fmt: skip


def request(model: str = "late-arrival") -> RetrainRequested:
    return RetrainRequested(stream="flights", model=model, requester="ann", reason="new aircraft")


def drift(state: str = "active", alert: str = "drift-1") -> WindowAlert:
    return WindowAlert.model_validate({"id": alert, "name": "drift", "severity": "warning", "state": state})


def test_a_quiet_window_is_judged_and_said_to_be(memory: Memory) -> None:
    assert handlers.on_window_closed(closed(1), memory.ports()) == [
        ToStream(Progress(service="training", model="late-arrival", event_time=DAY, position=100), "flights", 0)
    ]


def test_enough_labels_request_a_run_and_hold_the_replay(memory: Memory) -> None:
    request, progress = handlers.on_window_closed(closed(20, 20_000), memory.ports())
    assert isinstance(request, RunRequested)
    assert (request.cause_kind, request.position, request.at_time) == ("labels", 2000, 20 * DAY)
    assert request.effective_at == 20 * DAY + 6 * HOUR
    assert request.spec_digest == BUNDLE.digest
    assert isinstance(progress, ToStream)
    assert (progress.event.run, progress.event.hold) == (request.run, request.effective_at)  # type: ignore[attr-defined]
    assert memory.traces == ["00-trace"]


def test_the_labels_of_two_shards_request_one_run_at_the_window_that_brought_the_last(memory: Memory) -> None:
    assert len(handlers.on_window_closed(closed(19, 12_000), memory.ports())) == 1
    asked, progress = handlers.on_window_closed(closed(20, 8_000, shard=1), memory.ports())
    assert isinstance(asked, RunRequested)
    assert (asked.cause_kind, asked.cause_detail) == ("labels", "20000 labels")
    assert (asked.partition, asked.position, asked.at_time) == (1, 2000, 20 * DAY)
    assert isinstance(progress, ToStream)
    assert progress.partition == 1
    assert len(handlers.on_window_closed(closed(20, 12_500), memory.ports())) == 1


def test_a_shards_labels_count_once_whatever_its_windows(memory: Memory) -> None:
    for day in (18, 19, 20):
        assert len(handlers.on_window_closed(closed(day, 9_000), memory.ports())) == 1
    assert len(handlers.on_window_closed(closed(20, 10_999, shard=1), memory.ports())) == 1
    assert len(handlers.on_window_closed(closed(21, 11_000, shard=1), memory.ports())) == 2


def test_a_schedule_gives_one_run_whichever_shard_reaches_it(memory: Memory) -> None:
    first = handlers.on_window_closed(closed(20, 20_000), memory.ports())[0]
    assert isinstance(first, RunRequested)
    memory.close(first.run, "completed")
    kinds = [
        [getattr(said, "cause_kind", "") for said in handlers.on_window_closed(closed(50, champion=1, shard=shard), memory.ports())]
        for shard in (1, 0)
    ]
    assert kinds == [["schedule", ""], [""]]


def test_the_cool_down_is_the_streams_and_not_the_shards(memory: Memory) -> None:
    first = handlers.on_window_closed(closed(20, 20_000), memory.ports())[0]
    assert isinstance(first, RunRequested)
    memory.close(first.run, "completed")
    (declined, _) = handlers.on_window_closed(closed(22, 0, drift(), champion=1, shard=1), memory.ports())
    assert isinstance(declined, RunDeclined)
    assert declined.reason.startswith("cool-down")
    (behind, _) = handlers.on_window_closed(closed(19, 0, drift("raised", "drift-2"), champion=1, shard=1), memory.ports())
    assert isinstance(behind, RunDeclined), "a shard that is late is no way around it"


def test_an_alert_that_is_cleared_is_no_cause(memory: Memory) -> None:
    assert len(handlers.on_window_closed(closed(20, 0, drift("cleared"), champion=1), memory.ports())) == 1
    assert isinstance(handlers.on_window_closed(closed(21, 0, drift(), champion=1), memory.ports())[0], RunRequested)


def test_a_refusal_is_said_once(memory: Memory) -> None:
    handlers.on_window_closed(closed(20, 20_000), memory.ports())
    memory.close(memory.told.runs[0].run, "completed")
    first = handlers.on_window_closed(closed(21, 0, drift(), champion=1), memory.ports())
    assert [type(said) for said in first] == [RunDeclined, ToStream]
    again = handlers.on_window_closed(closed(22, 0, drift(), champion=1), memory.ports())
    assert [type(said) for said in again] == [ToStream]
    later = handlers.on_window_closed(closed(27, 0, drift(), champion=1), memory.ports())
    assert [type(said) for said in later] == [RunRequested, ToStream]


def test_progress_names_no_run_once_it_ended(memory: Memory) -> None:
    run, _ = handlers.on_window_closed(closed(20, 20_000), memory.ports())
    assert isinstance(run, RunRequested)
    memory.close(run.run, "completed")
    (progress,) = handlers.on_window_closed(closed(21, 0, champion=1), memory.ports())
    assert isinstance(progress, ToStream)
    assert progress.event.run is None  # type: ignore[attr-defined]


def test_a_window_before_its_spec_is_parked() -> None:
    with pytest.raises(Parked, match="the spec of flights"):
        handlers.on_window_closed(closed(1), Memory().ports())


@pytest.mark.parametrize("over", [{"content": "{}"}, {"stream": "other"}])
def test_a_spec_that_cannot_be_followed_is_rejected_and_the_one_before_stays(memory: Memory, over: dict[str, str]) -> None:
    applied = Applied(stream="flights", digest="sha256:x", author="mallory", content=BUNDLE.to_json(), applied_at=0)
    with pytest.raises(Rejected, match="bad-spec"):
        handlers.on_applied(applied.model_copy(update=over), memory.ports())
    assert memory.specs_ == {"flights": BUNDLE}


def test_a_persons_request_takes_the_place_of_the_newest_window(memory: Memory) -> None:
    handlers.on_window_closed(closed(3), memory.ports())
    (said,) = handlers.on_retrain_requested(request(), memory.ports("please"))
    assert isinstance(said, RunRequested)
    assert (said.cause_kind, said.cause_id, said.cause_detail, said.requester) == ("manual", "please", "new aircraft", "ann")
    assert (said.position, said.at_time) == (300, 3 * DAY)


def test_a_persons_request_that_leads_to_nothing_says_why(memory: Memory) -> None:
    (nothing,) = handlers.on_retrain_requested(request(), memory.ports())
    assert isinstance(nothing, RunDeclined)
    assert "no window of this model has closed yet" in nothing.reason
    (unknown,) = handlers.on_retrain_requested(request("other"), memory.ports())
    assert isinstance(unknown, RunDeclined)
    assert unknown.reason == "no spec of flights with a model other was applied"
    handlers.on_window_closed(closed(20, 20_000), memory.ports())
    (running,) = handlers.on_retrain_requested(request(), memory.ports("again"))
    assert isinstance(running, RunDeclined)
    assert "is open" in running.reason
