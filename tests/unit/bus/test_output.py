"""Suppression: what the output has is not said again, what it lacks is, and a foreign tail stops the worker."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.bus import heads
from tidemill.bus.fold import ABOUT, OutputTopic, Rows
from tidemill.bus.output import Output
from tidemill.bus.snapshot import OutputMark
from tidemill.bus.tail import OutputAheadOfLog, Tail
from tidemill.events.blobs import Blobs
from tidemill.events.log_header import PREFIX

VALUES = [b"v%d" % number for number in range(100)]


def output(tail: int | None, value: bytes | None = None) -> Output:
    newest = None if tail is None else Tail(tail, 0, None, value or VALUES[tail])
    return Output(OutputTopic("features.{stream}"), "features.s", 0, newest)


def rows(begin: int, end: int, **more: Any) -> Rows:
    return Rows("features", begin, Blobs.of([None] * (end - begin)), Blobs.of(VALUES[begin:end]), **more)


@given(st.one_of(st.none(), st.integers(0, 60)), st.lists(st.integers(1, 20), max_size=10))
def test_exactly_what_is_behind_the_tail_is_said(tail: int | None, sizes: list[int]) -> None:
    target, said, at = output(tail), [], 0
    for size in sizes:
        size = min(size, 100 - at)
        fresh = target.fresh(rows(at, at + size))
        assert not len(fresh) or fresh.values[0] == VALUES[fresh.seq]
        said += fresh.values
        at += size
    assert said == VALUES[(-1 if tail is None else tail) + 1 : at]
    assert target.mark.seq == at


def test_all_columns_are_cut_alike() -> None:
    about = np.zeros(4, ABOUT)
    about["position"] = range(4)
    fresh = output(1).fresh(
        rows(
            0,
            4,
            cause=np.arange(4),
            hop=np.arange(4, dtype=np.uint8),
            about=about,
            heads=heads.of([[("n", b"%d" % n)] for n in range(4)]),
        )
    )
    assert fresh.cause is not None and fresh.hop is not None and fresh.about is not None and fresh.heads is not None
    assert (fresh.seq, fresh.cause.tolist(), fresh.hop.tolist(), fresh.about["position"].tolist()) == (2, [2, 3], [2, 3], [2, 3])
    assert list(map(heads.read, fresh.heads)) == [[("n", b"2")], [("n", b"3")]]


def test_a_tail_that_the_fold_does_not_make_stops_it() -> None:
    target = output(5, b"of another log")
    target.fresh(rows(0, 5))
    with pytest.raises(OutputAheadOfLog, match=r"record 5 of features\.s"):
        target.fresh(rows(5, 8))


@pytest.mark.parametrize(
    ("key", "place", "agrees"), [(b"e", 5, True), (b"f", 5, False), (b"e", 4, False)], ids=["same", "other event", "other place"]
)
def test_behind_a_tail_of_other_code_the_fold_goes_on_where_it_stands_for_the_same_event(
    key: bytes, place: int, agrees: bool
) -> None:
    def vector(position: int, code: bytes) -> bytes:
        return np.array([(b"\0\0\0\0\1", 0, position, 0)], PREFIX).tobytes() + code

    said = Rows("features", 0, Blobs.of([b"e", b"e"]), Blobs.of([vector(5, b"new"), vector(6, b"new")]))
    target = Output(OutputTopic("features.{stream}"), "features.s", 0, Tail(0, place, key, vector(place, b"old")), own=False)
    if agrees:
        assert target.fresh(said).values.tolist() == [vector(6, b"new")]
    else:
        with pytest.raises(OutputAheadOfLog):
            target.fresh(said)


def test_numbers_that_are_not_dense_are_a_bug() -> None:
    target = output(None)
    target.fresh(rows(0, 3))
    with pytest.raises(RuntimeError, match="numbers a row 4 where 3 comes next"):
        target.fresh(rows(4, 5))


@pytest.mark.parametrize(
    ("tail", "mark", "covered"), [(None, 0, True), (None, 1, False), (4, 5, True), (4, 3, True), (4, 6, False)]
)
def test_a_state_that_said_more_than_the_output_holds_is_not_used(tail: int | None, mark: int, covered: bool) -> None:
    assert output(tail).covers(OutputMark(mark)) == covered


def shared(*said: bytes) -> Output:
    return Output(OutputTopic("monitoring.alert-raised.v1", tail="scan"), "monitoring.alert-raised.v1", 0, said=set(said))


def events(begin: int, *ids: bytes) -> Rows:
    envelopes = heads.of([[("ce_id", one), ("ce_type", b"t")] for one in ids])
    return Rows("alerts", begin, Blobs.of([None] * len(ids)), Blobs.of(ids), envelopes)


def test_in_a_shared_topic_an_event_is_said_once_by_its_id() -> None:
    target = shared(b"b", b"of-another-stream")
    assert target.fresh(events(0, b"a", b"b", b"c")).values.tolist() == [b"a", b"c"]
    assert target.fresh(events(3)).values.tolist() == []
    assert target.mark == OutputMark(3, "c")
    assert target.covers(OutputMark(2, "b"))
    assert target.covers(OutputMark(0))
    assert not shared().covers(OutputMark(2, "b"))
