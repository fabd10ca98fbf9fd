"""Ingest on the real broker: from raw topics and HTTP into one log, whatever happens to its process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

from tests.conftest import Stack
from tests.integration.ingest_stream import Ingest, Stream
from tests.unit.ingest import world
from tests.unit.ingest.world import SECOND
from tests.waiting import until
from tidemill.bus.producer import gapless
from tidemill.events import log_header

START = 1_000_000_000 * SECOND


@pytest.fixture
def stream(stack: Stack, stream_name: str, request: pytest.FixtureRequest) -> Iterator[Stream]:
    """A stream of one test alone; its parameter is what its spec says otherwise."""
    made = Stream(stack, stream_name, getattr(request, "param", {}))
    yield made
    made.end()


def kinds(stream: Stream) -> list[int]:
    batch = stream.log()
    return [] if batch is None or batch.log is None else batch.log["kind"].tolist()


def test_a_replay_becomes_a_log_in_known_order_behind_a_barrier_and_a_spec(stream: Stream) -> None:
    stream.apply()
    for source in ("a", "b"):
        stream.send(source, [stream.promise(source, START)])
    stream.start().ready()
    stream.send(
        "a",
        [
            *(stream.event("a", f"a{n}", START + 2 * n * SECOND) for n in range(500)),
            stream.promise("a", START + 1000 * SECOND, True),
        ],
    )
    stream.send(
        "b",
        [
            *(stream.event("b", f"b{n}", START + (2 * n + 1) * SECOND) for n in range(500)),
            stream.promise("b", START + 1000 * SECOND, True),
        ],
    )
    until(lambda: kinds(stream).count(log_header.PROGRESSED) == 3, "the end of the replay")
    batch = stream.log()
    assert batch is not None and batch.log is not None
    assert batch.log["kind"][:2].tolist() == [log_header.BARRIER, log_header.SPEC_ADOPTED]
    assert [key for key, _ in stream.events()] == [f"{'ab'[n % 2]}{n // 2}" for n in range(1000)]
    assert np.all(np.diff(batch.log["known"]) >= 0)
    assert np.all(np.diff(batch.log["stream"]) >= 0)
    assert stream.dead() == {}


def test_a_killed_ingest_neither_loses_nor_doubles_an_event(stream: Stream) -> None:
    stream.apply()
    for source in ("a", "b"):
        stream.send(source, [stream.promise(source, START)])
    life, sent, chance = stream.start().ready(), 0, np.random.default_rng(7)
    while sent < 20_000:
        end = sent + 1_000
        for source in ("a", "b"):
            rows = [stream.event(source, f"{source}{n}", START + n * SECOND) for n in range(sent, end, 2)]
            rows += [rows[i] for i in chance.integers(0, len(rows), 10)]  # 2 % come again
            stream.send(source, [*rows, stream.promise(source, START + end * SECOND, end == 20_000)])
        sent = end
        if sent in (5_000, 12_000, 17_000):
            until(lambda sent=sent: stream.count() > sent - 1_500, "most events")
            life.kill()
            life = stream.start()
    until(lambda: stream.count() > 20_000 and kinds(stream)[-1] == log_header.PROGRESSED, "the end of the replay", 120)
    found = stream.events()
    assert len(found) == len(set(found)) == 20_000
    batch = stream.log()
    assert batch is not None and batch.log is not None
    assert np.all(np.diff(batch.log["known"]) >= 0)
    assert kinds(stream).count(log_header.BARRIER) == 4
    assert stream.dead() == {}


def test_a_producer_with_transactions_holds_nobody_up(stream: Stream) -> None:
    stream.apply()
    stream.start().ready()
    producer = Producer({"bootstrap.servers": stream.stack.bootstrap, "transactional.id": stream.name})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(f"raw.{stream.name}.b", stream.event("b", "in-a-transaction", START))
    producer.commit_transaction(30)
    until(lambda: "in-a-transaction" in dict(stream.events()), "the event of the transaction")
    stream.send("a", [stream.event("a", "later", START + 100 * SECOND)])
    until(lambda: "later" in dict(stream.events()), "what another source sends later")


def test_a_partition_that_a_raw_topic_gets_is_read_too(stream: Stream) -> None:
    stream.apply()
    stream.start().ready()
    topic = f"raw.{stream.name}.a"
    admin = AdminClient({"bootstrap.servers": stream.stack.bootstrap})
    admin.create_partitions([NewPartitions(topic, 2)])[topic].result(30)
    producer = Producer({"bootstrap.servers": stream.stack.bootstrap})
    until(lambda: len(producer.list_topics(topic, 10).topics[topic].partitions) == 2, "the partition")
    producer.produce(topic, stream.event("a", "in-the-new-one", START), partition=1)
    assert producer.flush(30) == 0
    stream.send("a", [stream.event("a", "in-the-old-one", START + SECOND)])
    until(lambda: {"in-the-new-one", "in-the-old-one"} <= dict(stream.events()).keys(), "both events")


def test_a_drained_ingest_goes_on_from_its_snapshot(stream: Stream) -> None:
    stream.apply()
    life = stream.start().ready()
    stream.send("a", [stream.event("a", f"x{n}", START + n) for n in range(3_000)])
    until(lambda: len(stream.events()) == 3_000, "all events")
    assert life.stop() == 0
    assert list((stream.settings.data_dir / "snapshots" / "ingest").rglob("*.npz"))
    again = stream.start().ready()
    stream.send("a", [stream.event("a", f"x{n}", START + n) for n in range(2_990, 3_010)])
    until(lambda: len(stream.events()) == 3_010, "the new events")
    assert "tidemill_duplicates_total" in again.metrics()
    assert "snapshot ignored" not in again.tail()


def test_a_damaged_snapshot_is_passed_over(stream: Stream) -> None:
    stream.apply()
    life = stream.start().ready()
    stream.send("a", [stream.event("a", f"x{n}", START + n) for n in range(100)])
    until(lambda: len(stream.events()) == 100, "all events")
    assert life.stop() == 0
    for file in (stream.settings.data_dir / "snapshots" / "ingest").rglob("*.npz"):
        file.write_bytes(file.read_bytes()[:-10] + b"0123456789")
    again = stream.start().ready()
    stream.send("a", [stream.event("a", f"x{n}", START + n) for n in range(90, 110)])
    until(lambda: len(stream.events()) == 110, "the new events")
    assert "snapshot ignored" in again.tail()


def test_a_log_that_lost_its_end_is_written_again(stream: Stream) -> None:
    stream.apply()
    life = stream.start().ready()
    stream.send("a", [stream.event("a", f"x{n}", START + n) for n in range(3_000)])
    until(lambda: len(stream.events()) == 3_000, "all events")
    assert life.stop() == 0
    stream.truncate(f"log.{stream.name}", 1_000)
    again = stream.start()
    until(lambda: len(stream.events()) == 3_000, "the lost events")
    assert [key for key, _ in stream.events()] == [f"x{n}" for n in range(3_000)]
    assert '"reason": "other-input"' in again.tail()


def test_a_log_ahead_of_its_raw_topics_stops_ingest(stream: Stream) -> None:
    stream.apply()
    life = stream.start().ready()
    stream.send("a", [stream.event("a", f"x{n}", START + n) for n in range(300)])
    until(lambda: len(stream.events()) == 300, "all events")
    life.kill()
    stream.truncate(f"raw.{stream.name}.a", 200)
    again = stream.start()
    assert again.process.wait(60) == 1
    assert "ahead of its raw topic" in again.tail()
    assert len(stream.events()) == 300


def test_a_dead_writers_late_batch_is_void(stream: Stream) -> None:
    stream.apply()
    stream.start().ready()
    batch = stream.log()
    assert batch is not None and batch.log is not None
    late = np.zeros(3, log_header.LOG_HEADER)
    late["writer"], late["seq"] = 12345, batch.log["seq"][-1] + 1 + np.arange(3)
    sender = gapless(stream.settings, "zombie")
    value = stream.event("a", "zombie", START)
    sender.send(f"log.{stream.name}", 0, [b"zombie"] * 3, [value] * 3, [[(log_header.HEADER, row.tobytes())] for row in late])
    assert sender.flush(10)
    stream.send("a", [stream.event("a", f"x{n}", START + n) for n in range(10)])
    until(lambda: len(stream.events()) == 10, "the events")
    assert "zombie" not in dict(stream.events())


def test_a_live_event_waits_for_no_other(stream: Stream) -> None:
    stream.apply()
    life = stream.start().ready()
    for n in range(20):
        code, answer = life.post("a", {"id": f"e{n}", "at": START + n, "amount": 1.5, "color": None})
        assert (code, answer["status"]) == (202, "accepted")
        assert dict(stream.events())[f"e{n}"] is not None  # it is there before the next one comes


def test_a_new_spec_is_adopted_at_its_place(stream: Stream) -> None:
    stream.apply()
    life = stream.start().ready()
    stream.send("a", [stream.event("a", "x1", START)])
    until(lambda: len(stream.events()) == 1, "the first event")
    stream.apply(dedupe="3d")
    until(lambda: kinds(stream).count(log_header.SPEC_ADOPTED) == 2, "the new spec")
    stream.send("a", [stream.event("a", "x1", START), stream.event("a", "x2", START)])
    until(lambda: len(stream.events()) == 2, "the second event")
    assert kinds(stream) == [
        log_header.BARRIER,
        log_header.SPEC_ADOPTED,
        log_header.EVENT,
        log_header.SPEC_ADOPTED,
        log_header.EVENT,
    ]
    life.kill()
    stream.start().ready()
    assert kinds(stream)[-1] == log_header.BARRIER


def test_new_schema_ids_of_the_same_spec_are_adopted(stream: Stream) -> None:
    """As after an update of Tidemill, or after the registry was made anew: folds write by the ids of the log's newest spec."""
    stream.apply()
    life = stream.start().ready()
    stream.ids["world.Other"] = stream.ids["a"]
    stream.apply()
    until(lambda: kinds(stream).count(log_header.SPEC_ADOPTED) == 2, "the new ids")
    life.kill()
    stream.start().ready()
    assert kinds(stream).count(log_header.SPEC_ADOPTED) == 2


@pytest.mark.parametrize("stream", [{"shards": 2}], indirect=True, ids=["2 shards"])
def test_shards_share_the_events_and_each_is_said_once(stream: Stream) -> None:
    stream.apply()
    stream.start().ready()
    colors = ["red", "green", "blue", "grey"]
    rows = [world.event("a", f"x{n}", START + n, color=colors[n % 4], schema_id=stream.ids["a"]) for n in range(400)]
    stream.send("a", [*rows, b"no avro"])
    until(lambda: len(stream.events(0)) + len(stream.events(1)) == 400, "all events")
    assert set(Counter(key for shard in (0, 1) for key, _ in stream.events(shard)).values()) == {1}
    assert stream.events(0) and stream.events(1)
    until(lambda: len(stream.dead()) == 1, "the dead letter")


@pytest.mark.parametrize(
    "stream", [{"shards": 2, "checks": [{"column": "amount", "between": [0, 100]}]}], indirect=True, ids=["2 shards"]
)
def test_any_ingest_process_takes_an_event_and_tells_its_place(stream: Stream, tmp_path: Path) -> None:
    """Two processes share two shards: what one's door takes is written by either, and both tell the same."""
    stream.apply()
    doors = [stream.start(TIDEMILL_DATA_DIR=str(tmp_path / name)) for name in ("one", "two")]
    until(lambda: all(len(shards(door)) == 1 for door in doors), "a shard for each process", 180)
    assert shards(doors[0]) != shards(doors[1])
    events = [{"id": f"e{n}", "at": START + n, "amount": 1.0, "color": f"c{n}"} for n in range(40)]
    code, first = doors[0].post("a", events)
    assert (code, {one["status"] for one in first["results"]}) == (202, {"accepted"})
    assert {one["position"]["partition"] for one in first["results"]} == {0, 1}
    code, again = doors[1].post("a", events)
    assert (code, {one["status"] for one in again["results"]}) == (202, {"duplicate"})
    assert [one["position"] for one in again["results"]] == [one["position"] for one in first["results"]]
    for door in doors:
        for color in ("c0", "c1", "c2", "c3"):  # of both shards
            assert door.post("a", {"id": f"bad-{color}", "at": START, "amount": 101.0, "color": color})[0] == 422
        code, answer = door.post("a", events[0] | {"amount": 2.0})
        assert (code, answer["reason"]) == (409, "id-conflict")


def shards(door: Ingest) -> set[str]:
    """The shards that a process writes, once it is ready."""
    code, said = door.get("/health/ready") if door.listens() else (0, {})
    return set(said["shards"]) if code == 200 else set()
