"""A stream of two shards, two workers of every data-plane service: each event is folded by one of them, as one worker would."""

from __future__ import annotations

import io
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient

from services.feature_store import app as feature_store
from services.ingest import app as ingest
from services.monitoring import app as monitoring
from services.serving import app as serving
from tests.columns import fetched
from tests.conftest import Stack
from tests.e2e import chaos_audit as audit
from tests.e2e.chaos_site import APPROVER, FLIGHTS, GROUP, MODEL, seat, until
from tidemill.bus.consumer import read_to_end
from tidemill.bus.control_client import read_all
from tidemill.bus.fold import Batch, Input
from tidemill.bus.intake import Place, intake
from tidemill.bus.loop import Loop
from tidemill.bus.pace import Pace
from tidemill.bus.running import with_sidecars
from tidemill.cli.apply import Plan, publish
from tidemill.errors import Transient
from tidemill.events import log_header, wire
from tidemill.events.identity import hash64
from tidemill.events.ingest import SwitchAppended
from tidemill.events.monitoring import WindowClosed
from tidemill.events.predictions import Prediction
from tidemill.settings import Settings
from tidemill.spec import Bundle, ModelSpec, StreamSpec, load
from tidemill.trust import keys

SHARDS = WORKERS = 2
SERVICES = ("ingest", "feature-store", "serving", "monitoring")
SECOND = 1_000_000
HOUR = 3_600 * SECOND
START = 1_370_000_000 * SECOND
CARRIERS = ("UA", "B6", "EV", "DL", "AA", "MQ")
FLOWN = 2_000


def split(stream: str) -> Bundle:
    """The flights without the weather, which has no carrier, split by carrier."""
    whole = load(FLIGHTS)
    spec = whole.stream.model_dump(mode="json", by_alias=True)
    spec |= {"stream": stream, "shards": SHARDS, "split_by": "carrier", "order": ["arrivals", "departures"]}
    del spec["sources"]["weather"], spec["views"]["weather_now"]
    model = whole.models[MODEL].model_dump(mode="json", by_alias=True)
    model["features"]["views"].remove("weather_now")
    model |= {"trigger": f"{stream}.departure", "monitors": {**model["monitors"], "window": "6h"}}
    schemas = {source: whole.schemas[source] for source in spec["sources"]}
    models = {MODEL: ModelSpec.model_validate(model)}
    return whole.model_copy(update={"stream": StreamSpec.model_validate(spec), "models": models, "schemas": schemas})


def flown(chance: random.Random) -> list[tuple[str, dict[str, Any]]]:
    """(source, event) in the order of their times: departures, and most of their arrivals."""
    found: list[tuple[int, str, dict[str, Any]]] = []
    for n in range(FLOWN):
        at, delay = START + n * 60 * SECOND, chance.gauss(10, 20)
        flight: dict[str, Any] = {
            "flight_id": f"f{n}", "carrier": chance.choice(CARRIERS), "tailnum": chance.choice([None, "N1", "N2"]), "dest": chance.choice("ABC"),
        }  # fmt: skip
        left = {
            "departed_at": at,
            "flight": n,
            "origin": "JFK",
            "dep_delay": delay,
            "distance": 500.0,
            "sched_hour": 7,
            "weekday": 1,
        }
        found.append((at, "departures", flight | left))
        if chance.random() < 0.9:
            late = at + chance.randrange(HOUR, 5 * HOUR)
            found.append(
                (late, "arrivals", flight | {"arrived_at": late, "arr_delay": delay + chance.gauss(0, 10), "air_time": 90.0})
            )
    return [(source, event) for _, source, event in sorted(found, key=lambda one: one[:2])]


class Crew:
    """Workers in threads; the first error of any fails the test."""

    def __init__(self, settings: Settings, root: Path) -> None:
        self._settings, self._root = settings, root
        self._failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._stops: list[threading.Event] = []

    def hire(self, number: int) -> None:
        """One worker of every service."""
        settings = self._settings.model_copy(update={"data_dir": self._root / f"worker{number}"})
        writer = ingest.build(settings)
        self._begin(writer.run, writer.stop)
        scoring, orders = serving.build(settings)
        for fold, sidecars in ((feature_store.build(settings), ()), (scoring, (orders.run,)), (monitoring.build(settings), ())):
            loop: Loop[Any] = Loop(fold, settings, Pace(snapshot_seconds=1))
            self._begin(lambda loop=loop, sidecars=sidecars: with_sidecars(loop.running, sidecars, loop.go), loop.running.stop)

    def check(self) -> bool:
        """True; raises what made a worker fail."""
        for failure in self._failures:
            raise failure
        return True

    def end(self) -> None:
        for stop in self._stops:
            stop.set()
        for thread in self._threads:
            thread.join()
        self.check()

    def _begin(self, work: Callable[[], None], stop: threading.Event) -> None:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                self._failures.append(error)

        self._threads.append(threading.Thread(target=guarded, daemon=True))
        self._stops.append(stop)
        self._threads[-1].start()


@contextmanager
def crew(settings: Settings, root: Path) -> Iterator[Crew]:
    """Two workers of every service, each with one shard."""
    made = Crew(settings, root)
    try:
        for number in range(WORKERS):
            made.hire(number)
        until(lambda: made.check() and all(settled(settings, name) for name in SERVICES), "one shard for each worker")
        yield made
    finally:
        made.end()


def settled(settings: Settings, service: str) -> bool:
    """Whether each of the group's members has one shard."""
    group = f"{settings.librdkafka['group.id']}-{service}"
    admin = AdminClient({"bootstrap.servers": settings.kafka})
    try:
        found = admin.describe_consumer_groups([group])[group].result(30)
    except (TimeoutError, KafkaException) as error:
        raise Transient(f"the broker does not tell of {group}: {error}") from error
    held = [{place.partition for place in member.assignment.topic_partitions} for member in found.members]
    return sorted(held, key=sorted) == [{number} for number in range(SHARDS)]


def send(settings: Settings, bundle: Bundle, events: list[tuple[str, dict[str, Any]]]) -> None:
    parsed = {source: fastavro.parse_schema(schema, named_schemas={}) for source, schema in bundle.schemas.items()}
    producer = Producer({"bootstrap.servers": settings.kafka, "linger.ms": 5})
    for source, event in events:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed[source], event)
        producer.produce(f"raw.{bundle.stream.stream}.{source}", wire.frame(bundle.ids[source], out.getvalue()), event["flight_id"])
    assert producer.flush(30) == 0


def taken(settings: Settings, family: str, stream: str, shard: int) -> Batch:
    """A topic's partition as its readers take it."""
    topic = f"{family}.{stream}"
    messages = [message for part in read_to_end(settings, topic) for message in part if message.partition() == shard]
    batch, _ = intake(Input(family, log=family == "log"), topic, shard, fetched(messages), Place())
    assert batch is not None
    return batch


def said(settings: Settings, kind: Any, stream: str) -> list[Any]:
    return [heard.event for heard in read_all(settings, [kind]) if heard.event.stream == stream]  # type: ignore[attr-defined]


@pytest.fixture
def settings(stack: Stack, stream_name: str, tmp_path: Path) -> Settings:
    keys.generate(APPROVER, tmp_path / "private", tmp_path / "trust" / GROUP)
    return stack.settings(
        streams=stream_name, librdkafka={"group.id": f"test-{stream_name}"}, trust_dir=tmp_path / "trust", store=f"file://{tmp_path}/store"
    )  # fmt: skip


def test_two_workers_fold_two_shards_as_one_would(settings: Settings, stream_name: str, tmp_path: Path) -> None:
    applied = publish(Plan(split(stream_name), None, "", []), settings, "bob")
    assert applied is not None
    bundle, events = Bundle.from_json(applied.content), flown(random.Random(4))
    with crew(settings, tmp_path) as workers:
        seat(settings, bundle, 0, tmp_path / "private")
        until(lambda: workers.check() and len(said(settings, SwitchAppended, stream_name)) == SHARDS, "a switch in each shard")
        send(settings, bundle, events)
        until(lambda: workers.check() and predicted(settings, stream_name) == FLOWN, "all predictions")
        until(lambda: workers.check() and len(closed(settings, stream_name)) == SHARDS, "the windows of both shards")
    logs = [taken(settings, "log", stream_name, shard) for shard in range(SHARDS)]
    every_event_is_in_its_shard_once(logs, events)
    for shard in range(SHARDS):
        outputs_are_those_of_one_fold(settings, stream_name, logs[shard], shard)
        windows_count_what_came(settings, stream_name, logs[shard], shard)


def predicted(settings: Settings, stream: str) -> int:
    return sum(len(part) for part in read_to_end(settings, f"predictions.{stream}"))


def closed(settings: Settings, stream: str) -> set[int]:
    """The shards of which the windows are closed up to the last one that must be."""
    last = START + FLOWN * 60 * SECOND - 12 * HOUR
    return {window.partition for window in said(settings, WindowClosed, stream) if window.window_start >= last}


def every_event_is_in_its_shard_once(logs: list[Batch], events: list[tuple[str, dict[str, Any]]]) -> None:
    found = Counter((shard, key) for shard, batch in enumerate(logs) for key in batch.keys if key)
    wanted = Counter((hash64(event["carrier"].encode()) % SHARDS, event["flight_id"].encode()) for _, event in events)
    assert found == wanted
    assert len({shard for shard, _ in found}) == SHARDS


def outputs_are_those_of_one_fold(settings: Settings, stream: str, log_: Batch, shard: int) -> None:
    features = audit.folded(feature_store.build(settings), log_, "features", 300)
    predictions = audit.folded(serving.build(settings)[0], features, "predictions", 300)
    for family, wanted in (("features", features), ("predictions", predictions)):
        batch = taken(settings, family, stream, shard)
        assert (batch.keys.tolist(), batch.values.tolist()) == (wanted.keys.tolist(), wanted.values.tolist())
    scored = fastavro.schemaless_reader(io.BytesIO(predictions.values[-1][5:]), fastavro.parse_schema(Prediction.SCHEMA), None)
    assert (scored["status"], scored["version"]) == ("scored", 1)  # type: ignore[index,call-overload]


def windows_count_what_came(settings: Settings, stream: str, log_: Batch, shard: int) -> None:
    assert log_.log is not None
    asked = log_.log[(log_.log["kind"] == log_header.EVENT) & (log_.log["source"] == 1)]["stream"]
    windows = [window for window in said(settings, WindowClosed, stream) if window.partition == shard]
    assert len(windows) > 3
    for window in windows:
        assert window.predictions == int(np.sum((asked >= window.window_start) & (asked < window.window_end)))
    assert sum(window.outcomes for window in windows) == windows[-1].outcomes_total > 100
