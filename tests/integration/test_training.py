"""Training as a process on a real broker: from a closed window to an artifact, whatever dies in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import psycopg
import pytest
from confluent_kafka import Producer

from services.training.adapters import MIGRATIONS
from services.training.fit.dataset import build
from services.training.fit.past import read
from tests.integration.control.begin import begin_here
from tests.unit.training.synthetic import BEGIN, DAY, MODEL, PER_DAY, past, request
from tests.waiting import until
from tidemill.bus.control_client import Follower, Heard, Publisher, read_all
from tidemill.bus.producer import configuration
from tidemill.bus.sequence import Gap
from tidemill.events import features, log_header, wire
from tidemill.events.base import Event
from tidemill.events.log import SpecAdopted
from tidemill.events.monitoring import WindowClosed
from tidemill.events.progress import Progress
from tidemill.events.schema_registry import Registry
from tidemill.events.spec import Applied
from tidemill.events.topics import control_topics
from tidemill.events.training import (
    DatasetBuilt,
    PartitionEnd,
    RetrainRequested,
    RunCompleted,
    RunDeclined,
    RunFailed,
    RunRequested,
    RunStarted,
)
from tidemill.features.vector import vector_schema
from tidemill.models.scorer import Scorer
from tidemill.settings import Settings
from tidemill.spec import Bundle
from tidemill.spec import load as load_spec
from tidemill.store import Store, digest_of

N = 6_000
SAID = [RunRequested, RunDeclined, RunStarted, DatasetBuilt, RunCompleted, RunFailed]
FLIGHTS = Path(__file__).parents[2] / "usecases" / "flights"


@dataclass
class Case:
    """A stream with a features topic, and training's own database."""

    stack: object
    settings: Settings
    stream: str
    bundle: Bundle
    dsn: str

    @property
    def registry(self) -> Registry:
        return Registry(self.settings.schema_registry)

    def closed(self, day: int, labels: int, position: int, champion: int | None = None) -> WindowClosed:
        return WindowClosed(
            stream=self.stream, model=MODEL, partition=0, window_start=BEGIN + (day - 1) * DAY, window_end=BEGIN + day * DAY,
            position=position, champion=champion, predictions=0, scored=0, outcomes=0, outcomes_total=labels, unlabelled=0,
            score_quantiles=[], metrics={}, shadow_metrics={}, psi={}, missing={}, alerts=[], ended=False,
        )  # fmt: skip

    def applied(self) -> Applied:
        return Applied(stream=self.stream, digest=self.bundle.digest, author="ann", content=self.bundle.to_json(), applied_at=0)

    def mine(self, heard: list[Heard]) -> list[Heard]:
        return [one for one in heard if getattr(one.event, "stream", None) == self.stream]

    def said(self) -> list[Event]:
        """What training has said until now, each event once."""
        once = {heard.envelope.id: heard.event for heard in self.mine(read_all(self.settings, SAID))}
        return list(once.values())

    def follow(self, last: Callable[[Event], bool], start: str = "begin", seconds: float = 90) -> list[Event]:
        """What training says, up to the event that is the last one wanted."""
        found: list[Event] = []
        with Follower(self.settings, SAID, start) as follower:  # type: ignore[arg-type]

            def complete() -> bool:
                found.extend(heard.event for heard in self.mine(follower.poll(0.2)))
                return any(map(last, found))

            until(complete, "the event that is waited for", seconds)
        return found


@pytest.fixture
def case(stack, stream_name) -> Case:
    return case_of(stack, stream_name, shards=1)


@pytest.fixture
def two(stack, stream_name) -> Case:
    """A stream with two shards."""
    return case_of(stack, stream_name, shards=2)


@pytest.fixture
def slow(stack, stream_name) -> Case:
    """The same, of whose runs a fit takes seconds: one that is to be killed in the middle of it is not done before."""
    return case_of(stack, stream_name, shards=2, trials=24, trees=200)


def case_of(stack, stream_name: str, shards: int, trials: int = 2, trees: int = 30) -> Case:
    stack.topics(control_topics())
    stack.stream(stream_name, "departures", shards=shards)
    content = load_spec(FLIGHTS).model_dump(mode="json", by_alias=True, exclude={"ids"})
    content["stream"]["stream"] = stream_name
    content["models"][MODEL]["trigger"] = f"{stream_name}.departure"
    content["models"][MODEL]["training"]["candidates"]["xgboost"].update(trials=trials, max_trees=trees)
    content["models"][MODEL]["retrain"]["on"] = [{"labels": 2000}, "manual"]
    found = Case(stack, stack.settings(), stream_name, Bundle.model_validate(content), stack.new_database())
    begin_here(found.dsn, found.settings, [Applied, WindowClosed, RetrainRequested], MIGRATIONS)
    return found


@contextmanager
def training(case: Case) -> Iterator[subprocess.Popen[bytes]]:
    environment = case.stack.environment(case.settings, case.dsn)  # type: ignore[attr-defined]
    child = subprocess.Popen([sys.executable, "-m", "services.training"], env=environment)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def values(case: Case, seed: int = 0) -> list[bytes]:
    """A partition of the features topic: a spec, then vectors with their outcomes, numbered densely."""
    registry, source = case.registry, past(N, seed)
    schema = vector_schema(case.bundle, "departure")
    ids = {
        "vector": registry.register(f"{schema['namespace']}.{schema['name']}", schema, "NONE"),
        "outcome": registry.id_of(features.Outcome),
        "unlabelled": registry.id_of(features.Unlabelled),
    }
    vectors = source.vectors[0]
    vectors["spec"] = case.bundle.mark
    rows = []
    for name, part in (("vector", vectors), ("outcome", source.outcomes), ("unlabelled", source.unlabelled)):
        part["frame"] = wire.frame(ids[name], b"")
        rows += [(int(row["position"]), row.tobytes()) for row in part]
    adopted = SpecAdopted(
        seq=0, position=-1, stream_time=0, stream=case.stream, digest=case.bundle.digest, content=case.bundle.to_json()
    )
    ordered = [(-1, wire.encode(adopted, registry)), *sorted(rows)]
    return [
        log_header.restamp(value, seq, position, BEGIN + max(position, 0) // 2 * (DAY // PER_DAY))
        for seq, (position, value) in enumerate(ordered)
    ]


def produce(case: Case, said: list[bytes], partition: int = 0) -> None:
    producer = Producer(configuration(case.settings, "test"))
    for value in said:
        producer.produce(f"features.{case.stream}", value, partition=partition)
    assert producer.flush(30) == 0


def say(case: Case, *events: Event) -> None:
    with Publisher(case.settings, "test") as publisher:
        for event in events:
            publisher.publish(event)


def is_completed(event: Event) -> bool:
    return isinstance(event, RunCompleted)


def test_labels_lead_to_an_artifact_and_progress_tells_of_the_run(case: Case) -> None:
    produce(case, values(case))
    say(case, case.applied(), case.closed(9, 1500, 7_000))
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with Publisher(case.settings, "test") as publisher:
        publisher.publish(case.closed(14, 2500, 2 * N - 100), traceparent=parent)
    with training(case) as process:
        found = case.follow(is_completed)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert [type(event) for event in found] == [RunRequested, RunStarted, DatasetBuilt, RunCompleted]
    requested, _, built, completed = found
    assert isinstance(requested, RunRequested)
    assert isinstance(built, DatasetBuilt)
    assert isinstance(completed, RunCompleted)
    assert (requested.cause_kind, requested.cause_detail, requested.position) == ("labels", "2000 labels", 2 * N - 100)
    assert requested.spec_digest == completed.spec_digest == case.bundle.digest
    assert completed.rows == built.rows
    assert built.unlabelled["too-young"] > 0
    files = Store(case.settings.store_url).get_tree(completed.artifact)
    assert Scorer.load(files).encoding.model == MODEL
    progress = [heard.event for heard in read_all(case.settings, [Progress], stream=case.stream)]
    assert [(one.event_time, one.run, one.hold) for one in progress if isinstance(one, Progress)] == [
        (BEGIN + 9 * DAY, None, None),
        (BEGIN + 14 * DAY, requested.run, requested.effective_at),
    ]
    traces = {(heard.envelope.traceparent or "")[3:35] for heard in case.mine(read_all(case.settings, SAID))}
    assert traces == {parent[3:35]}, "one trace leads from the window to the artifact"


def test_killed_whenever_something_is_first_seen_it_still_gives_one_version(case: Case) -> None:
    produce(case, values(case))
    say(case, case.applied(), case.closed(14, 2500, 2 * N - 100))
    for kind in (RunRequested, RunStarted, DatasetBuilt):
        with training(case) as process:
            case.follow(lambda event, kind=kind: isinstance(event, kind))  # type: ignore[misc]
            process.kill()
    with training(case) as process:
        case.follow(is_completed)
        process.kill()
    say(case, case.closed(15, 2600, 2 * N - 50, champion=1))
    with training(case):
        until(lambda: len(read_all(case.settings, [Progress], stream=case.stream)) >= 2, "both windows judged")
    kinds = [type(event) for event in case.said()]
    assert [kinds.count(kind) for kind in (RunRequested, DatasetBuilt, RunCompleted, RunFailed)] == [1, 1, 1, 0]


def test_a_child_killed_in_mid_fit_is_replaced(case: Case) -> None:
    produce(case, values(case))
    say(case, case.applied(), case.closed(14, 2500, 2 * N - 100))
    with training(case) as process:
        case.follow(lambda event: isinstance(event, DatasetBuilt))
        (child,) = psutil.Process(process.pid).children()
        child.kill()
        found = case.follow(is_completed)
    assert [type(event) for event in found].count(RunStarted) == 2
    assert not psutil.pid_exists(child.pid)


def test_a_runners_child_dies_with_it(case: Case) -> None:
    produce(case, values(case))
    say(case, case.applied(), case.closed(14, 2500, 2 * N - 100))
    with training(case) as process:
        case.follow(lambda event: isinstance(event, RunStarted))
        children = until(psutil.Process(process.pid).children, "the child that fits", 30)
        process.kill()
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert len(gone) == 1
    assert not alive


def test_a_run_waits_until_features_have_passed_its_cause(case: Case) -> None:
    everything = values(case)
    produce(case, everything[:9_000])
    say(case, case.applied(), case.closed(14, 2500, 2 * N - 100))
    with training(case):
        case.follow(lambda event: isinstance(event, RunRequested))
        produce(case, everything[8_000:])  # some of them again, as a relay may
        found = case.follow(is_completed)
    assert [type(event) for event in found].count(RunStarted) == 1
    assert [event.rows for event in found if isinstance(event, RunCompleted)] == [
        event.rows for event in found if isinstance(event, DatasetBuilt)
    ]


def test_what_is_read_is_what_stands_before_the_cause(case: Case) -> None:
    everything = values(case)
    produce(case, everything[:5_000] + everything[4_000:])
    asked = request(N, stream=case.stream, position=8_001)
    (found,), roster = read(case.settings, case.registry, asked, [])
    assert roster.bundle is not None
    assert roster.bundle.digest == case.bundle.digest
    assert len(found.vectors[0]) == 4_001
    assert found.vectors[0]["position"].tolist() == list(range(0, 8_001, 2))
    assert found.outcomes["position"].max() < 8_001
    np.testing.assert_array_equal(np.diff(found.vectors[0]["event_time"]), DAY // PER_DAY)


def test_a_gap_in_features_is_never_learned_from(case: Case) -> None:
    everything = values(case)
    produce(case, everything[:5_000] + everything[5_001:])
    with pytest.raises(Gap, match="record 5000 is missing"):
        read(case.settings, case.registry, request(N, stream=case.stream), [])


def test_a_run_that_can_never_succeed_fails_and_the_service_goes_on(case: Case) -> None:
    produce(case, values(case))
    say(case, case.applied(), case.closed(4, 2500, 1_000))
    with training(case):
        found = case.follow(lambda event: isinstance(event, RunFailed))
        (failed,) = [event for event in found if isinstance(event, RunFailed)]
        assert failed.reason == "no-rows" or failed.reason == "too-few-rows"
        say(
            case,
            case.closed(14, 2600, 2 * N - 100),
            RetrainRequested(stream=case.stream, model=MODEL, requester="ann", reason="now"),
        )
        found = case.follow(is_completed)
    (completed,) = [event for event in found if isinstance(event, RunCompleted)]
    assert (completed.cause_kind, completed.requester) == ("manual", "ann")


def test_a_person_asks_by_the_command_line_and_hears_the_answer(case: Case) -> None:
    say(case, case.applied())
    command = [sys.executable, "-m", "tidemill.cli.main", "retrain", MODEL, "--stream", case.stream, "--as", "ann", "--reason"]
    environment = {**case.stack.environment(case.settings), "USER": "ann"}  # type: ignore[attr-defined]
    with training(case):
        early = subprocess.run([*command, "too early"], env=environment, capture_output=True, text=True, check=False)
        say(case, case.closed(14, 100, 2 * N - 100))
        until(lambda: read_all(case.settings, [Progress], stream=case.stream), "the window judged")
        late = subprocess.run([*command, "new aircraft"], env=environment, capture_output=True, text=True, check=False)
    assert (early.returncode, late.returncode) == (1, 0)
    assert "late-arrival is not retrained: no " in early.stderr
    (requested,) = [event for event in case.said() if isinstance(event, RunRequested)]
    assert requested.run in late.stdout
    assert (requested.cause_detail, requested.requester) == ("new aircraft", "ann")


def test_a_run_is_fitted_again_from_the_same_records_though_another_shard_has_grown(slow: Case) -> None:
    others = values(slow, seed=1)
    produce(slow, values(slow))
    produce(slow, others[:4_000], partition=1)
    say(slow, slow.applied(), slow.closed(14, 2500, 2 * N - 100))
    with training(slow) as process:
        slow.follow(lambda event: isinstance(event, RunStarted))
        process.kill()
    produce(slow, others[3_000:8_000], partition=1)
    with training(slow):
        found = slow.follow(is_completed)
    ends = [PartitionEnd(partition=1, end=4_000)]
    assert [event.ends for event in found if isinstance(event, RunStarted)] == [ends, ends]
    (asked,) = [event for event in found if isinstance(event, RunRequested)]
    (completed,) = [event for event in found if isinstance(event, RunCompleted)]
    assert completed.dataset == dataset_of(slow, asked, ends), "whoever reads what the run's events say has the same rows"
    assert completed.dataset != dataset_of(slow, asked, [PartitionEnd(partition=1, end=8_000)])


def test_the_spec_of_a_run_is_that_of_its_causes_shard(two: Case) -> None:
    produce(two, values(two))
    content = two.bundle.model_dump(mode="json", by_alias=True)
    content["models"][MODEL]["training"]["seed"] += 1
    late = Bundle.model_validate(content)
    produce(two, values(replace(two, bundle=late), seed=1)[:1_000], partition=1)
    asked = request(N, stream=two.stream, position=2 * N - 100)
    found, roster = read(two.settings, two.registry, asked, [PartitionEnd(partition=1, end=1_000)])
    assert roster.bundle is not None
    assert roster.bundle.digest == two.bundle.digest != late.digest
    assert [one.records for one in found] == [2 * N - 99, 1_000]


def dataset_of(case: Case, asked: RunRequested, ends: Sequence[PartitionEnd]) -> str:
    found, roster = read(case.settings, case.registry, asked, ends)
    assert roster.bundle is not None
    return digest_of(build(found, roster.bundle, asked).to_parquet())


def test_leases_are_taken_over_by_the_next_leader(case: Case) -> None:
    produce(case, values(case))
    say(case, case.applied(), case.closed(14, 2500, 2 * N - 100))
    with training(case) as process:
        case.follow(lambda event: isinstance(event, RunStarted))
        os.kill(process.pid, signal.SIGKILL)
    with training(case):
        case.follow(is_completed, seconds=60)
    with psycopg.connect(case.dsn) as connection:
        assert connection.execute("SELECT state, attempts, crashes FROM runs").fetchall() == [("completed", 2, 0)]
