"""A column of byte strings does what a list of them does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.events.blobs import Blobs
from tidemill.events.fixed import joined, taken
from tidemill.events.gather import gather

PAIR = np.dtype([("a", "u1"), ("b", ">u2")])
items = st.lists(st.none() | st.binary(max_size=8), max_size=12)


@st.composite
def columns(draw: st.DrawFn) -> tuple[Blobs, list[bytes | None]]:
    """A column whose bytes stand anywhere, in any order, and the list of the same."""
    wanted, data = draw(items), bytearray(draw(st.binary(max_size=3)))
    begins = [0] * len(wanted)
    for at in draw(st.permutations(range(len(wanted)))):
        begins[at] = len(data)
        data += (wanted[at] or b"") + draw(st.binary(max_size=3))
    lengths = [-1 if item is None else len(item) for item in wanted]
    return Blobs(np.frombuffer(bytes(data), np.uint8), np.array(begins, np.int64), np.array(lengths, np.int64)), wanted


@given(items)
def test_it_is_made_of_a_list(wanted: list[bytes | None]) -> None:
    found = Blobs.of(wanted)
    assert (found.tolist(), len(found)) == (wanted, len(wanted))


@given(st.lists(st.none() | st.text(max_size=8), max_size=12))
def test_texts_are_kept_as_utf8(texts: list[str | None]) -> None:
    assert Blobs.of_texts(texts).tolist() == [None if text is None else text.encode() for text in texts]


def test_a_text_that_is_no_unicode_is_kept_all_the_same() -> None:
    assert Blobs.of_texts(["a", "\ud800"]).tolist() == [b"a", b"\xed\xa0\x80"]


@given(columns())
def test_each_is_given_by_its_index_and_one_after_the_other(both: tuple[Blobs, list[bytes | None]]) -> None:
    column, wanted = both
    assert column.tolist() == [column.get(at) for at in range(len(wanted))] == wanted
    assert list(column) == [column[at] for at in range(len(wanted))] == [item or b"" for item in wanted]


@given(columns(), st.data())
def test_some_are_chosen(both: tuple[Blobs, list[bytes | None]], data: st.DataObject) -> None:
    column, wanted = both
    places = data.draw(st.lists(st.integers(0, len(wanted) - 1), max_size=9) if wanted else st.just([]))
    there = np.array(data.draw(st.lists(st.booleans(), min_size=len(wanted), max_size=len(wanted))), np.bool_)
    assert column.chosen(np.array(places, np.int64)).tolist() == [wanted[at] for at in places]
    assert column.chosen(there).tolist() == [item for item, chosen in zip(wanted, there.tolist(), strict=True) if chosen]
    assert column.chosen(slice(1, 3)).tolist() == wanted[1:3]
    assert column.where(there).tolist() == [item if kept else None for item, kept in zip(wanted, there.tolist(), strict=True)]


@given(columns(), st.integers(0, 9))
def test_each_can_lose_its_first_bytes(both: tuple[Blobs, list[bytes | None]], width: int) -> None:
    column, wanted = both
    assert column.beyond(width).tolist() == [None if item is None else item[width:] for item in wanted]


@given(columns())
def test_packed_it_has_no_other_bytes(both: tuple[Blobs, list[bytes | None]]) -> None:
    column, wanted = both
    packed = column.packed()
    assert (packed.tolist(), packed.data.tobytes()) == (wanted, b"".join(filter(None, wanted)))
    assert packed.packed() is packed


@given(columns())
def test_what_is_gathered_are_its_slices(both: tuple[Blobs, list[bytes | None]]) -> None:
    column, wanted = both
    assert gather(column.data, column.begins, column.lengths).tobytes() == b"".join(filter(None, wanted))


@given(st.lists(columns(), max_size=4))
def test_several_are_put_one_after_the_other(parts: list[tuple[Blobs, list[bytes | None]]]) -> None:
    assert Blobs.concat([column for column, _ in parts]).tolist() == [item for _, wanted in parts for item in wanted]


@given(st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=5)), max_size=9))
def test_one_column_follows_another_item_by_item(pairs: list[tuple[bytes, bytes]]) -> None:
    left, right = Blobs.of([one for one, _ in pairs]), Blobs.of([one for _, one in pairs])
    assert left.followed(right).tolist() == [one + other for one, other in pairs]


@given(columns())
def test_the_rows_that_they_begin_with_are_those_of_the_long_enough(both: tuple[Blobs, list[bytes | None]]) -> None:
    column, wanted = both
    rows, sound = column.heads(PAIR)
    assert sound.tolist() == [at for at, item in enumerate(wanted) if item is not None and len(item) >= 3]
    assert rows.tolist() == [(item[0], int.from_bytes(item[1:3], "big")) for item in map(wanted.__getitem__, sound) if item]


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 65535)), max_size=9))
def test_rows_are_the_bytes_that_they_are(pairs: list[tuple[int, int]]) -> None:
    rows = np.array(pairs, PAIR)
    assert Blobs.rows(rows).tolist() == [row.tobytes() for row in rows]
    assert Blobs.rows(rows[::-1]).structs(PAIR).tolist() == pairs[::-1]


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 65535)), min_size=1, max_size=9), st.data())
def test_rows_are_taken_and_joined_as_numpy_does(pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    rows = np.array(pairs, PAIR)
    index = np.array(data.draw(st.lists(st.integers(0, len(pairs) - 1), max_size=9)), np.int64)
    assert taken(rows, index).tolist() == rows[index].tolist()
    assert taken(rows, rows["a"] > 9).tolist() == rows[rows["a"] > 9].tolist()
    assert joined([rows, rows[1:]]).tolist() == np.concatenate([rows, rows[1:]]).tolist()


@pytest.mark.parametrize("item", [b"ab", b"abcd", None])
def test_what_has_another_size_is_no_such_row(item: Any) -> None:
    with pytest.raises(ValueError, match="not all are 3 bytes long"):
        Blobs.of([b"abc", item]).structs(PAIR)


@given(st.lists(st.binary(max_size=5), min_size=1), st.data())
def test_some_are_replaced_by_others(items: list[bytes], data: st.DataObject) -> None:
    index = sorted(data.draw(st.sets(st.integers(0, len(items) - 1))))
    others = [data.draw(st.binary(max_size=7)) for _ in index]
    found = Blobs.of(items).replaced(np.array(index, np.int64), Blobs.of(others))
    assert found.tolist() == [dict(zip(index, others, strict=True)).get(at, item) for at, item in enumerate(items)]


def test_columns_are_made_of_one_value_and_of_arrays_of_strings() -> None:
    assert Blobs.same(b"ab", 2).tolist() == [b"ab", b"ab"]
    assert Blobs.same(b"", 1).tolist() == [b""]
    assert Blobs.of_strings(np.array([7, -12, 0]).astype("S")).tolist() == [b"7", b"-12", b"0"]
    assert Blobs.of([None, b"x"]).present().tolist() == [b"", b"x"]
