"""What the report is computed from: every raw event is somewhere, and switches are believed only with a decision that holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from confluent_kafka import Message

from tests.unit.feature_store import small
from tests.unit.serving import scene
from tidemill.bus.sequence import Gap
from tidemill.demo.ledger import Log, RawTopic, read_features, read_log
from tidemill.events import features, fixed, log_header, wire
from tidemill.events.base import Event


def numbers(*found: int) -> Any:
    return np.array(found, np.int64)


@pytest.mark.parametrize(
    ("ids", "logged", "dead", "rest"),
    [
        ((1, 2, 3), (0, 1, 2), (), (0, 0)),
        ((1, 2, 1), (0, 1), (), (1, 0)),
        ((1, 2, 3), (0, 1), (), (0, 1)),
        ((1, 2, 3), (0,), (1,), (0, 1)),
        ((1, 2, 2), (0,), (1,), (0, 1)),  # a repeat of what is dead is dead too, or lost
        ((1, 0, 0), (0, 1), (), (0, 1)),  # what has no key repeats nothing
    ],
)
def test_a_raw_event_is_in_the_log_or_dead_or_a_repeat_or_lost(
    ids: tuple[int, ...], logged: tuple[int, ...], dead: tuple[int, ...], rest: tuple[int, int]
) -> None:
    topic = RawTopic(np.arange(len(ids)), np.array(ids, np.uint64), np.zeros(len(ids), np.int64))
    assert topic.rest(numbers(*logged), numbers(*dead)) == rest


def test_a_switch_holds_by_its_own_decision_alone(tmp_path: Path) -> None:
    trust = scene.Trust.made(tmp_path)
    said: list[Event] = [scene.adopted(scene.bundle()), trust.switch(1, 1), trust.switch(2, 2, {"version": 3}), trust.switch(2, 2)]
    turns = {10 * at: wire.frame(small.IDS[one.full_name()], wire.datum(one)) for at, one in enumerate(said)}
    found = Log(np.zeros(0, log_header.LOG_HEADER), numbers(), turns)
    assert found.holding("small", cast(Any, scene.Schemas()), trust.ring) == {("m", 1, 10), ("m", 2, 30)}


class OfOutcomes:
    """A registry of one schema."""

    def schema(self, schema_id: int) -> dict[str, Any]:
        return features.Outcome.SCHEMA


def stamped(offset: int, kind: int, seq: int, writer: int) -> Message:
    stamp = np.array([(kind, 0, 0, writer, seq, 0, 0, 0)], log_header.LOG_HEADER).tobytes()
    return Message(topic="log.s", offset=offset, value=b"v%d" % offset, headers=[(log_header.HEADER, stamp)])


def outcome(offset: int, seq: int) -> Message:
    row = np.zeros(1, fixed.dtype_of(features.Outcome.SCHEMA))
    row["frame"], row["seq"] = wire.frame(1, b""), seq
    return Message(topic="features.s", offset=offset, value=row.tobytes())


def test_a_dead_writers_late_records_are_not_in_the_log() -> None:
    begun = [stamped(0, log_header.BARRIER, 0, 1), stamped(1, log_header.EVENT, 1, 1), stamped(2, log_header.BARRIER, 2, 2)]
    late = [stamped(3, log_header.SPEC_ADOPTED, 2, 1), stamped(4, log_header.MODEL_SWITCHED, 3, 2)]
    found = read_log(lambda topic: iter([begun, late]), "log.s")
    assert found.offsets.tolist() == [0, 1, 2, 4]
    assert (found.rows["kind"] == log_header.EVENT).tolist() == [False, True, False, False]
    assert found.turns == {4: b"v4"}


def test_what_a_restarted_writer_said_again_is_read_once() -> None:
    batches = [[outcome(0, 0), outcome(1, 1)], [outcome(2, 0), outcome(3, 1)], [outcome(4, 1), outcome(5, 2)]]
    found = read_features(lambda topic: iter(batches), "features.s", cast(Any, OfOutcomes()))
    assert {kind.record: rows["seq"].tolist() for kind, rows in found.items()} == {"Outcome": [0, 1, 2]}


def test_nothing_is_reported_of_a_topic_with_a_gap() -> None:
    with pytest.raises(Gap, match="record 1 is missing"):
        read_features(lambda topic: iter([[outcome(0, 0), outcome(1, 2)]]), "features.s", cast(Any, OfOutcomes()))
