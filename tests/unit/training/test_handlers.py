"""What training says about windows and requests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from services.training import handlers
from services.training.model import Asked, History, Window
from services.training.ports import Ports
from tidemill.bus.control import Meta, Parked, ToStream
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
    window: Window | None = None
    told: History = field(default_factory=History)
    traces: list[str | None] = field(default_factory=list)

    def get(self, stream: str) -> Bundle | None:
        return self.specs_.get(stream)

    def put(self, what: str | Window, content: str = "") -> None:
        if isinstance(what, Window):
            self.window, self.told = what, replace(self.told, begin=self.told.begin or what.start)
        else:
            self.specs_[what] = Bundle.from_json(content)

    def newest(self, stream: str, model: str) -> Window | None:
        return self.window

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
    day: int, labels: int = 0, *alerts: WindowAlert, champion: int | None = None, model: str = "late-arrival"
) -> WindowClosed:
    return WindowClosed(
        stream="flights", model=model, partition=0, window_start=(day - 1) * DAY, window_end=day * DAY, position=day * 100,
        champion=champion, predictions=0, scored=0, outcomes=0, outcomes_total=labels, unlabelled=0, score_quantiles=[],
        metrics={}, shadow_metrics={}, psi={}, missing={}, alerts=list(alerts), ended=False,
    )  # fmt: skip


def request(model: str = "late-arrival") -> RetrainRequested:
    return RetrainRequested(stream="flights", model=model, requester="ann", reason="new aircraft")


def drift(state: str = "active") -> WindowAlert:
    return WindowAlert.model_validate({"id": "drift-1", "name": "drift", "severity": "warning", "state": state})


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
