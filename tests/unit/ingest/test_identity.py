"""R6: what is a duplicate, what is a conflict, for how long; against a dictionary."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest import errors
from services.ingest.model import Lane
from tests.unit.ingest.world import SECOND, Log, Writer, arrival, bundle, event

A0, B0 = Lane("a", 0), Lane("b", 0)
BASE = 1_000_000_000 * SECOND


def brute_force(rows: list[tuple[str, int, float]], horizon: int) -> list[str]:
    """What becomes of live events (id, time, amount) of one source, by the words of the rule."""
    said, known, now = [], {}, 0
    for key, at, amount in rows:
        known = {old: (then, what) for old, (then, what) in known.items() if now - then <= horizon}
        if key in known:
            said.append("duplicate" if known[key][1] == (at, amount) else "conflict")
            continue
        now = max(now, at)
        known[key] = (now, (at, amount))
        said.append("accepted")
    return said


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from("pqrs"), st.integers(0, 30), st.sampled_from([1.0, 2.0])), max_size=60),
    st.integers(0, 12),
    st.data(),
)
def test_duplicates_and_conflicts_are_those_of_a_dictionary(
    rows: list[tuple[str, int, float]], horizon: int, data: st.DataObject
) -> None:
    """In time order, since a newest time that stands still says nothing of stream time."""
    rows = sorted(rows, key=lambda row: row[1])
    values = [event("a", key, BASE + at * SECOND, amount) for key, at, amount in rows]
    writer, begin = Writer(Log(), bundle(dedupe=f"{horizon}s"), (A0,)), 0
    while begin < len(values):
        end = begin + data.draw(st.integers(1, 20))
        writer.take(arrival(A0, values[begin:end], begin))
        begin = end
    expected = brute_force([(key, BASE + at * SECOND, amount) for key, at, amount in rows], horizon * SECOND)
    got = dict.fromkeys(range(len(rows)), "accepted")
    got |= {int(offset): "duplicate" for out in writer.outputs for part in out.repeats for offset in part.rows.offset}
    got |= {dead.offset: "conflict" for dead in writer.dead}
    assert list(got.values()) == expected
    assert {dead.reason for dead in writer.dead} <= {errors.ID_CONFLICT}


def test_the_same_id_of_another_source_is_another_event() -> None:
    writer = Writer(Log(), bundle(), (A0, B0))
    writer.take(arrival(A0, [event("a", "x", BASE)]), arrival(B0, [event("b", "x", BASE)]))
    assert writer.log.order() == ["x", "x"]


def test_a_duplicate_is_told_where_the_first_one_is() -> None:
    writer = Writer(Log(), bundle(), (A0,))
    writer.take(arrival(A0, [event("a", name, BASE) for name in ("x", "y", "x")]))
    writer.take(arrival(A0, [event("a", "y", BASE)], 3))
    assert writer.repeats == [("x", 2), ("y", 3)]  # behind the barrier and the spec


def test_a_restart_remembers_ids_and_places() -> None:
    first = Writer(Log(), bundle(), (A0,))
    first.take(arrival(A0, [event("a", "x", BASE), event("a", "y", BASE)]))
    again = Writer(first.log, bundle(), (A0,))
    again.take(arrival(A0, [event("a", "y", BASE), event("a", "x", BASE, 2.0)], 2))
    assert again.repeats == [("y", 3)]
    assert [dead.reason for dead in again.dead] == [errors.ID_CONFLICT]


def test_a_table_that_grows_forgets_nothing() -> None:
    writer = Writer(Log(), bundle(), (A0,))
    values = [event("a", f"x{n}", BASE + n) for n in range(5_000)]
    for begin in range(0, 5_000, 700):
        writer.take(arrival(A0, values[begin : begin + 700], begin))
    out = writer.take(arrival(A0, values, 5_000))
    assert sum(len(part.rows) for part in out.repeats) == 5_000
    assert len(writer.log.events()) == 5_000
