"""Headers as Kafka writes them, one record's and a column's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.bus import heads
from tidemill.bus.fold import Headers
from tidemill.events.blobs import Blobs

blob = st.binary(max_size=200)
names = st.text(max_size=9)


@given(st.lists(st.lists(st.tuples(names, blob), max_size=4), max_size=5))
def test_what_is_written_is_read(rows: list[Headers]) -> None:
    column = heads.of(rows)
    assert list(map(heads.read, column)) == rows
    assert heads.counts(column).tolist() == list(map(len, rows))


@given(st.lists(names, min_size=1, max_size=9, unique=True), st.integers(0, 6), st.data())
def test_a_column_of_the_same_headers_is_that_of_each_record(said: list[str], count: int, data: st.DataObject) -> None:
    rows = [[(name, data.draw(blob)) for name in said] for _ in range(count)]
    by_name = {name: Blobs.of([row[at][1] for row in rows]) for at, name in enumerate(said)}
    assert heads.columns(by_name).tolist() == heads.of(rows).tolist()


def test_no_headers_are_none() -> None:
    assert [heads.read(head) for head in heads.none(2)] == [[], []]
    assert heads.counts(heads.none(2)).tolist() == [0, 0]


def test_a_name_that_is_no_text_is_an_error() -> None:
    with pytest.raises(UnicodeDecodeError):
        heads.read(b"\x02\x04\xff\xfe\x02x")
