"""What a reader of the log, and of what is behind it, takes: next number, last barrier's writer, nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from tests.calls import calls_of
from tests.columns import fetched
from tidemill.bus.consumer import UNREADABLE, grouped
from tidemill.bus.fold import Batch, Input
from tidemill.bus.intake import Place, intake
from tidemill.bus.sequence import Gap
from tidemill.events.log_header import BARRIER, EVENT, HEADER, LOG_HEADER, PREFIX

LOG, FEATURES = Input("log", log=True), Input("features")


def message(offset: int, value: bytes | None, headers: Any = None, topic: str = "log.s", partition: int = 0) -> Message:
    return Message(
        topic=topic,
        partition=partition,
        offset=offset,
        key=b"k%d" % offset,
        value=value,
        headers=headers,
        timestamp=(2, 1000 + offset),
    )


def stamped(kind: int, seq: int, writer: int) -> list[tuple[str, bytes]]:
    return [(HEADER, np.array([(kind, 0, 0, writer, seq, 0, 0, 0)], LOG_HEADER).tobytes())]


def taken(source: Input, messages: list[Message], place: Place) -> tuple[Batch | None, Place]:
    return intake(source, messages[0].topic() or "", 0, fetched(messages), place)


def log_of(*records: tuple[int, int, int]) -> list[Message]:
    """(kind, seq, writer) each, at offsets from 0 on."""
    return [message(offset, b"v%d" % offset, stamped(*record)) for offset, record in enumerate(records)]


def derived(seqs: list[int], begin: int = 0) -> list[Message]:
    rows = np.zeros(len(seqs), PREFIX)
    rows["seq"] = seqs
    return [message(begin + at, rows[at].tobytes() + b"rest", topic="features.s") for at in range(len(seqs))]


def test_a_clean_log_is_taken_whole() -> None:
    batch, place = taken(LOG, log_of((BARRIER, 0, 7), (EVENT, 1, 7), (EVENT, 2, 7)), Place())
    assert batch is not None and batch.log is not None
    assert (batch.stream, batch.input) == ("s", "log")
    assert (batch.keys.tolist(), batch.values.tolist()) == ([b"k0", b"k1", b"k2"], [b"v0", b"v1", b"v2"])
    assert batch.headers == {}
    assert (batch.offsets.tolist(), batch.times.tolist(), batch.seqs.tolist()) == ([0, 1, 2], [1000, 1001, 1002], [0, 1, 2])
    assert (place.offset, place.seq, place.writer) == (3, 3, 7)


def test_a_dead_writers_late_records_are_void() -> None:
    records = [(BARRIER, 0, 1), (EVENT, 1, 1), (BARRIER, 2, 2), (EVENT, 2, 1), (EVENT, 3, 1), (EVENT, 3, 2)]
    batch, place = taken(LOG, log_of(*records), Place())
    assert batch is not None
    assert batch.offsets.tolist() == [0, 1, 2, 5]
    assert batch.seqs.tolist() == [0, 1, 2, 3]
    assert (place.offset, place.seq, place.writer) == (6, 4, 2)
    later, after = taken(LOG, [message(6, b"v", stamped(EVENT, 4, 1))], place)
    assert later is None
    assert (after.offset, after.seq) == (7, 4)


def test_a_barrier_that_did_not_know_the_last_number_takes_the_next() -> None:
    batch, place = taken(LOG, log_of((BARRIER, 0, 1), (EVENT, 1, 1), (BARRIER, 1, 2), (EVENT, 3, 2)), Place())
    assert batch is not None
    assert batch.seqs.tolist() == [0, 1, 2, 3]
    assert place.seq == 4


def test_records_that_are_none_of_ours_are_passed_over() -> None:
    records = log_of((BARRIER, 0, 1), (EVENT, 1, 1))
    foreign = [
        message(2, b"x"),
        message(3, b"x", [("other", b"1")]),
        message(4, b"x", [(HEADER, b"short")]),
        message(5, b"x", [(HEADER, None)]),
    ]
    batch, place = taken(LOG, [*records, *foreign, message(6, b"v6", stamped(EVENT, 2, 1))], Place())
    assert batch is not None
    assert batch.offsets.tolist() == [0, 1, 6]
    assert place.offset == 7


def test_what_has_headers_that_cannot_be_read_is_foreign() -> None:
    """Whatever its value: the number 1 here is of another's hand."""
    records = log_of((BARRIER, 0, 1), (EVENT, 1, 1))
    batch, _ = taken(LOG, [records[0], message(1, b"x", UNREADABLE), records[1]], Place())
    assert batch is not None
    assert batch.values.tolist() == [b"v0", b"v1"]
    forged = message(1, derived([1])[0].value(), UNREADABLE, "features.s")
    before = foreign()
    batch, place = taken(FEATURES, [*derived([0]), forged, *derived([1], 2)], Place())
    assert batch is not None
    assert (batch.offsets.tolist(), place.seq, foreign() - before) == ([0, 2], 2, 1)


def foreign() -> float:
    """How many records of other writers were left out of the features."""
    return REGISTRY.get_sample_value("tidemill_records_dropped_total", {"topic": "features.s", "reason": "foreign"}) or 0.0


@pytest.mark.parametrize("source", [LOG, FEATURES])
def test_only_headers_besides_the_logs_own_are_kept(source: Input) -> None:
    more = [("traceparent", b"00-1")]
    if source.log:
        more = [*stamped(EVENT, 1, 1), *more]
        messages = [*log_of((BARRIER, 0, 1)), message(1, b"x"), message(2, b"v", more)]
    else:
        messages = [*derived([0]), message(1, b"x"), message(2, derived([1])[0].value(), more)]
    batch, _ = taken(source, messages, Place())
    assert batch is not None
    assert batch.headers == {1: more}


def test_a_gap_stops_the_reader() -> None:
    with pytest.raises(Gap, match=r"log\.s\[0\]: record 2 is missing, 3 came"):
        taken(LOG, log_of((BARRIER, 0, 1), (EVENT, 1, 1), (EVENT, 3, 1)), Place())
    with pytest.raises(Gap, match="record 0 is missing"):
        taken(FEATURES, derived([1]), Place())


def test_what_is_too_short_to_be_derived_is_passed_over() -> None:
    messages = [*derived([0]), message(1, None, topic="features.s"), message(2, b"short", topic="features.s"), *derived([1], 3)]
    batch, place = taken(FEATURES, messages, Place())
    assert batch is not None
    assert (batch.offsets.tolist(), place.offset, place.seq) == ([0, 3], 4, 2)


@given(st.data())
def test_repeats_never_change_what_is_taken(data: st.DataObject) -> None:
    """A writer that starts again says its newest records again: a reader takes each number once, whatever the batches."""
    seqs, top = [0], 0
    for _ in range(data.draw(st.integers(0, 40))):
        back = data.draw(st.integers(0, 3))
        seqs.append(max(0, top + 1 - back))
        top = max(top, seqs[-1])
    messages, place, numbers = derived(seqs), Place(), list[int]()
    while place.offset < len(messages):
        width = data.draw(st.integers(1, 7))
        batch, place = taken(FEATURES, messages[place.offset : place.offset + width], place)
        numbers += batch.seqs.tolist() if batch else []
    assert numbers == list(range(top + 1))


def test_messages_are_grouped_in_order() -> None:
    a, b, c = (message(at, b"v", topic=topic) for at, topic in enumerate(("log.a", "log.b", "log.a")))
    assert list(grouped([a, b, c])) == [(("log.a", 0), [a, c]), (("log.b", 0), [b])]
    assert list(grouped([a, c])) == [(("log.a", 0), [a, c])]


@pytest.mark.parametrize("source", [LOG, FEATURES])
def test_no_python_call_is_made_per_record(source: Input) -> None:
    def calls(count: int) -> int:
        if source.log:
            messages = log_of((BARRIER, 0, 1), *((EVENT, seq, 1) for seq in range(1, count)))
        else:
            messages = derived(list(range(count)))

        records = fetched(messages)
        return calls_of(lambda: intake(source, "log.s", 0, records, Place()))

    calls(10)
    assert calls(2_000) == calls(10)
