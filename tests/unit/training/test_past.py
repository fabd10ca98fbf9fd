"""Where the reading of a partition ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from confluent_kafka import Message, TopicPartition

from services.training.fit.past import Reading, read_partition
from tests.unit.training.synthetic import request
from tidemill.bus.sequence import Gap
from tidemill.events import features
from tidemill.events.log_header import PREFIX

CAUSE = request(100)
"""Of partition 0, at position 200."""


class Known:
    """A registry of one schema."""

    def schema(self, schema_id: int) -> dict[str, Any]:
        return features.Outcome.SCHEMA


class Log:
    """A consumer of records at offsets from 0 on, which are there in batches; waiting for more would never end."""

    def __init__(self, *batches: list[bytes | None]) -> None:
        self._batches = [list(batch) for batch in batches]
        self._offset = -1

    def assign(self, places: list[TopicPartition]) -> None:
        assert [place.offset for place in places] == [0]

    def poll(self, wait: float) -> Message:
        assert self._batches, "waits for ever"
        return self._next()

    def consume(self, limit: int, wait: float) -> list[Message]:
        rest = [self._next() for _ in list(self._batches[0])]
        self._batches.pop(0)
        return rest

    def _next(self) -> Message:
        self._offset += 1
        return Message(topic="features.flights", offset=self._offset, value=self._batches[0].pop(0))


def records(*seqs: int, time: int = CAUSE.at_time - 1, position: int | None = None) -> list[bytes | None]:
    frame = b"\0\0\0\0\1"
    return [np.array([(frame, seq, seq if position is None else position, time)], PREFIX).tobytes() for seq in seqs]


def reading(partition: int, end: int | None, *batches: list[bytes | None]) -> Reading:
    return read_partition(Log(*batches), Known(), CAUSE, TopicPartition("features.flights", partition, 0), end)


def count(found: Reading) -> int:
    assert found.count == sum(map(len, found.values.values()))
    return found.count


def test_a_quiet_partition_ends_where_the_run_says() -> None:
    assert count(reading(1, 4, records(0, 1), records(2, 3))) == 4


def test_what_has_come_to_another_partition_since_the_run_began_does_not_count() -> None:
    once = reading(1, 3, records(0, 1), records(2))
    again = reading(1, 3, records(0, 1, 2, 3), records(4))
    assert count(again) == count(once) == 3
    assert again.values == once.values


def test_an_end_counts_records_and_not_offsets() -> None:
    assert count(reading(1, 3, records(0, 1, 0, 1), [None, *records(2, 3)])) == 3


def test_an_empty_partition_ends_at_once() -> None:
    assert count(reading(1, 0)) == 0


def test_another_partition_ends_at_the_causes_time_though_more_is_there() -> None:
    assert count(reading(1, 9, records(0, 1), records(2, 3, time=CAUSE.at_time), records(4))) == 2


def test_the_causes_own_partition_is_waited_for() -> None:
    assert count(reading(0, None, records(0, 1), records(2), records(3, position=CAUSE.position))) == 3


def test_the_causes_own_partition_has_no_other_end() -> None:
    with pytest.raises(AssertionError, match="waits for ever"):
        reading(0, None, records(0, 1))


def test_what_a_restarted_writer_said_again_counts_once() -> None:
    assert count(reading(1, 4, records(0, 1, 0), records(1, 2, 3))) == 4


def test_a_lost_record_ends_the_run() -> None:
    with pytest.raises(Gap, match=r"features\.flights\[1\]: record 2 is missing"):
        reading(1, 4, records(0, 1), records(3, 4))


def test_what_is_no_record_of_ours_is_passed_over() -> None:
    assert count(reading(1, 2, [*records(0), None, b"short", *records(1)])) == 2
