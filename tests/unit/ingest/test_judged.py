"""What has been judged is not judged again: neither dead records nor repeats, though the log says nothing of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, TopicPartition

from services.ingest import errors
from services.ingest.adapters.judged import Judged
from services.ingest.adapters.log import LogReader
from services.ingest.model import Lane, State
from services.ingest.step.snapshot import dump, load
from tests.unit.ingest.world import NOW, SECOND, Log, Writer, arrival, bundle, event, promise
from tidemill.bus.limit import TooManyDead
from tidemill.bus.snapshot import InputMark, fingerprint

A0, B0 = Lane("a", 0), Lane("b", 0)
BEGIN = NOW - 40 * 86_400 * SECOND
JUNK = b"no avro"


def events(source: str, count: int, begin: int = BEGIN) -> list[bytes]:
    return [event(source, f"{source}{n}", begin + n * SECOND) for n in range(count)]


# -- how far the step has judged -----------------------------------------------------------------------------------------


def test_dead_records_and_repeats_are_passed_and_a_snapshot_knows_it() -> None:
    writer = Writer(Log(), bundle(), (A0,))
    one = event("a", "x", BEGIN)
    writer.take(arrival(A0, [one, one, event("a", "x", BEGIN, 2.0), JUNK]))
    assert load(dump(writer.shard.state)).passed == {A0: 4}


def test_what_waits_for_another_lane_is_not_passed_nor_what_stands_behind_it() -> None:
    writer = Writer(Log(), bundle(), (A0, B0))
    writer.take(arrival(A0, [JUNK, *events("a", 1), JUNK]), more={B0})
    assert writer.shard.state.passed == {A0: 1}
    writer.take()
    assert writer.shard.state.passed == {A0: 3}


def test_a_promise_is_passed_once_the_log_has_it() -> None:
    later = BEGIN + 10 * SECOND
    writer = Writer(Log(), bundle(), (A0, B0))
    writer.take(arrival(A0, [promise("a", BEGIN), *events("a", 2), promise("a", later), JUNK]))
    assert writer.shard.state.passed == {A0: 0}
    writer.take(arrival(B0, [promise("b", BEGIN)]))
    assert writer.shard.state.passed == {A0: 1, B0: 1}
    writer.take(arrival(B0, [promise("b", later)], 1))
    assert writer.shard.state.passed == {A0: 5, B0: 2}


def test_the_end_of_a_lane_is_passed_with_the_end_of_the_replay() -> None:
    writer = Writer(Log(), bundle(), (A0, B0))
    writer.take(arrival(A0, [promise("a", BEGIN, ended=True), JUNK]), arrival(B0, [promise("b", BEGIN)]))
    assert writer.shard.state.passed == {A0: 0, B0: 1}
    writer.take(arrival(B0, [promise("b", BEGIN, ended=True)], 1))
    assert writer.shard.state.passed == {A0: 2, B0: 2}


# -- what the broker keeps of it -----------------------------------------------------------------------------------------


@dataclass
class Broker:
    """A group's offsets, and raw topics a and b of one partition each."""

    kept: dict[tuple[str, int], TopicPartition] = field(default_factory=dict)

    def commit(self, offsets: Iterable[TopicPartition], asynchronous: bool) -> None:
        self.kept |= {(place.topic, place.partition): place for place in offsets}

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [self.kept.get((place.topic, place.partition), place) for place in places]

    def list_topics(self, topic: str, timeout: float) -> Any:
        return SimpleNamespace(topics={topic: SimpleNamespace(error=None, partitions={0: None})})

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        return 0, 1_000_000


@dataclass
class Reader:
    """Reads a log from its list."""

    log: Log

    def stands_in(self, mark: InputMark) -> bool:
        return mark.offset <= len(self.log.values) and newest(self.log.prefix(mark.offset)) == mark.newest

    def follow(self, state: State, end: int) -> None:
        self.log.follow(state, end)


def newest(log: Log) -> str:
    return fingerprint(log.keys[-1], log.values[-1])


def life(broker: Broker, log: Log) -> tuple[Writer, Judged]:
    """A writer that begins where the broker says that the one before has ended."""
    judged, state = Judged(cast(Consumer, broker), "world", 0.5), State("world", 0)
    judged.restore(state, cast(LogReader, Reader(log)), ["b", "a"])
    writer = Writer(log, bundle(), (A0, B0))
    writer.shard.state.passed |= state.passed
    return writer, judged


def take(writer: Writer, judged: Judged, raw: list[bytes]) -> None:
    """All that lane a has and that was not judged."""
    begin = writer.shard.state.passed.get(A0, 0)
    if begin < len(raw):
        out = writer.take(arrival(A0, raw[begin:], begin))
        judged.count(out.read, len(out.dead))
    judged.rest(writer.shard.state, newest(writer.log))


def test_a_tail_of_dead_records_that_was_tolerated_stops_no_later_life() -> None:
    broker, log, raw = Broker(), Log(), events("a", 10_000)
    writer, judged = life(broker, log)
    take(writer, judged, raw)
    take(writer, judged, raw := [*raw, *[JUNK] * 200])
    assert len(writer.dead) == 200
    for _ in range(2):
        writer, judged = life(broker, log)
        take(writer, judged, raw)
        assert writer.dead == []
    take(writer, judged, [*raw, *[JUNK] * 200])  # and the good ones before it still count
    assert len(writer.dead) == 200


def test_what_stops_a_life_stops_the_next_one_too() -> None:
    broker, log, raw = Broker(), Log(), [*[JUNK] * 199, *events("a", 100)]
    writer, judged = life(broker, log)
    take(writer, judged, raw)
    raw += [JUNK] * 2
    for _ in range(3):
        with pytest.raises(TooManyDead):
            take(writer, judged, raw)
        writer, judged = life(broker, log)


def kept() -> tuple[Broker, Log]:
    """What is left by a life that has seen an event and five dead records."""
    broker, log = Broker(), Log()
    take(*life(broker, log), [*events("a", 1), *[JUNK] * 5])
    return broker, log


def test_places_of_this_log_are_taken() -> None:
    assert life(*kept())[0].shard.state.passed == {A0: 6}


def test_what_waits_behind_a_place_keeps_its_rank_in_the_merge() -> None:
    broker, log = Broker(), Log()
    writer, judged = life(broker, log)
    lanes = {
        "a": [promise("a", BEGIN), *events("a", 1, BEGIN + 9 * SECOND), promise("a", BEGIN + SECOND)],
        "b": [promise("b", BEGIN)],
    }
    writer.take(arrival(A0, lanes["a"]), arrival(B0, lanes["b"]))
    judged.rest(writer.shard.state, newest(log))
    state = State("world", 0)
    Judged(cast(Consumer, broker), "world", 0.5).restore(state, cast(LogReader, Reader(log)), ["b", "a"])
    assert (state.passed, state.floor) == ({A0: 1, B0: 1}, {A0: BEGIN + 9 * SECOND, B0: BEGIN})


def test_places_that_are_ahead_of_the_log_are_not_taken() -> None:
    broker, log = kept()
    assert life(broker, log.prefix(2))[0].shard.state.passed == {}


def test_places_of_another_log_are_not_taken() -> None:
    broker, log = kept()
    log.values[-1] += b"\0"
    assert life(broker, log)[0].shard.state.passed == {A0: 1}


def test_places_of_a_writer_that_had_a_successor_are_not_taken() -> None:
    """Readers of the log leave out what it wrote, so that others wrote the record of that number."""
    broker, log = kept()
    log.headers[-1]["writer"] += 1
    assert life(broker, log)[0].shard.state.passed == {A0: 1}


def test_offsets_that_another_tool_has_set_are_not_taken() -> None:
    broker, log = kept()
    broker.commit([TopicPartition("raw.world.a", 0, 3)], False)
    assert life(broker, log)[0].shard.state.passed == {A0: 1}


def test_places_that_were_kept_at_another_time_than_the_newest_are_not_taken() -> None:
    """Nobody looks up whether they are of this log."""
    broker, log = kept()
    (place,) = broker.kept.values()
    other = json.loads(place.metadata)
    other["log"]["offset"] -= 1
    broker.commit([TopicPartition("raw.world.b", 0, 9, json.dumps(other))], False)
    assert life(broker, log)[0].shard.state.passed == {A0: 6}


def test_places_are_kept_only_after_the_round_that_they_are_noted_in() -> None:
    broker, log = Broker(), Log()
    writer, judged = life(broker, log)
    writer.take(arrival(A0, [JUNK]))
    judged.note(writer.shard.state, newest(log))
    assert broker.kept == {}
    judged.keep()
    assert [(place.topic, place.offset) for place in broker.kept.values()] == [("raw.world.a", 1)]


def test_a_repeat_at_a_lanes_end_is_not_appended_once_its_first_is_forgotten() -> None:
    """Another lane has moved stream time past `dedupe` since, and the log is all that is left of the writer's state."""
    day = 86_400 * SECOND
    broker, log, one = Broker(), Log(), event("a", "x", BEGIN)
    writer, judged = life(broker, log)
    writer.take(arrival(A0, raw := [one, one, event("a", "x", BEGIN, 2.0)]))
    writer.take(arrival(B0, [event("b", f"b{n}", BEGIN + n * day) for n in range(1, 12)]))
    assert [dead.reason for dead in writer.dead] == [errors.ID_CONFLICT]
    judged.rest(writer.shard.state, newest(log))
    writer, judged = life(broker, log)
    take(writer, judged, raw)
    assert log.order() == ["x", *(f"b{n}" for n in range(1, 12))]
    assert writer.dead == []
