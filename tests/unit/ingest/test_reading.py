"""What is wrong with a raw record on its own is told, and only its own row is left out."""

from __future__ import annotations

import copy
import io
import json
import math
from typing import Any

import fastavro
import pytest

from services.ingest import errors
from services.ingest.model import Lane, State
from services.ingest.step import begin, compiled, read, step, unknown_ids
from services.ingest.step.snapshot import dump, load
from tests.calls import calls_of
from tests.unit.ingest.world import IDS, NOW, SECOND, Log, Writer, arrival, bundle, event, promise, schema
from tidemill.events import wire

A0, B0 = Lane("a", 0), Lane("b", 0)
BASE = 1_000_000_000 * SECOND
GOOD = [event("a", f"good-{n}", BASE + n) for n in range(20)]


def reason_of(value: bytes | None, **spec: Any) -> tuple[str, str]:
    """Reason and message of a bad record in the middle of good ones, which all must pass."""
    found = read(compiled(bundle(**spec)), arrival(A0, [*GOOD[:10], value, *GOOD[10:]]))
    assert found.rows.ids == [f"good-{n}" for n in range(20)]
    assert [dead.offset for dead in found.dead] == [10]
    assert found.dead[0].origin == "a/0/10"
    return found.dead[0].reason, found.dead[0].message


def written(by: dict[str, Any], schema_id: int, row: dict[str, Any]) -> bytes:
    """A framed raw event by another schema than the world's."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, by, row)
    return wire.frame(schema_id, out.getvalue())


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"hello", errors.UNDECODABLE),
        (None, errors.UNDECODABLE),
        (GOOD[0][:-4], errors.UNDECODABLE),
        (GOOD[0] + b"\1", errors.UNDECODABLE),
        (wire.frame(99, GOOD[0][5:]), errors.UNKNOWN_SCHEMA),
        (event("a", "old", 0), errors.TIME_OUT_OF_RANGE),
        (event("a", "early", NOW + 301 * SECOND), errors.TIME_OUT_OF_RANGE),
        (event("a", "far", 2**63 - 1), errors.TIME_OUT_OF_RANGE),
        (event("a", "far", -(2**63)), errors.TIME_OUT_OF_RANGE),
        (event("a", None, BASE), errors.MISSING_ID),
        (event("a", "", BASE), errors.MISSING_ID),
        (event("a", "nan", BASE, float("nan")), errors.CHECK_FAILED),
        (event("a", "inf", BASE, float("-inf")), errors.CHECK_FAILED),
        (event("a", "nan", BASE, share=float("nan")), errors.CHECK_FAILED),
        (event("a", "inf", BASE, share=float("inf")), errors.CHECK_FAILED),
        (b"\0" * 600_000, errors.TOO_LARGE),
        (promise("b", BASE), errors.CHECK_FAILED),
    ],
)
def test_a_bad_record_has_its_reason_and_harms_no_neighbour(value: bytes | None, reason: str) -> None:
    assert reason_of(value)[0] == reason


def test_a_failed_check_names_the_rule_and_the_value() -> None:
    reason, message = reason_of(event("a", "x", BASE, 7.5), checks=[{"column": "amount", "between": [0, 5]}])
    assert reason == errors.CHECK_FAILED
    assert "BETWEEN" in message
    assert "7.5" in message


def test_a_number_that_may_be_missing_is_finite_where_it_is_there() -> None:
    assert reason_of(event("a", "x", BASE, share=float("nan")))[1] == "share is no finite number: share = nan"
    found = read(compiled(bundle()), arrival(A0, [event("a", "none", BASE), event("a", "half", BASE, share=0.5)]))
    assert found.rows.ids == ["none", "half"]


@pytest.mark.parametrize(("column", "kind", "value"), [("count", "double", math.inf), ("amount", ["null", "long"], None)])
def test_what_another_version_wrote_is_judged_as_the_sources_number(column: str, kind: Any, value: float | None) -> None:
    """Versions may differ in how they write a number: an int as a double, one that is never missing as one that may be."""
    spec = bundle()
    spec.schemas["a"]["fields"].append({"name": "count", "type": "long", "default": 0})
    plan, other = compiled(spec), copy.deepcopy(spec.schemas["a"])
    next(field for field in other["fields"] if field["name"] == column)["type"] = kind
    plan.sources["a"].learn(77, other)
    row = {"id": "x", "at": BASE, "amount": 1, "count": 1, column: value}
    found = read(plan, arrival(A0, [written(other, 77, row)]))
    assert [dead.message for dead in found.dead] == [f"{column} is no finite number: {column} = {value}"]


def test_a_time_may_be_ahead_of_the_broker_by_as_much_as_the_spec_says() -> None:
    found = read(compiled(bundle()), arrival(A0, [event("a", "x", NOW + 299 * SECOND)]))
    assert found.rows.ids == ["x"]


def test_a_delay_makes_history_known_later_but_not_later_than_it_came() -> None:
    found = read(compiled(bundle(known_at="10s")), arrival(A0, [event("a", "x", BASE), event("a", "y", NOW - SECOND)]))
    assert found.rows.known.tolist() == [BASE + 10 * SECOND, NOW]


def test_a_batch_of_nothing_but_cut_records_is_read() -> None:
    found = read(compiled(bundle()), arrival(A0, [GOOD[0][:-4]] * 3))
    assert (len(found.rows), len(found.dead)) == (0, 3)


def test_a_row_later_than_its_feeds_promise_is_dead_and_the_rest_is_merged() -> None:
    """Between two promises nothing may be known more than `ahead` after the second one, even if that is long past today."""
    writer = Writer(Log(), bundle(), (A0,))
    values = [
        promise("a", BASE),
        event("a", "x", BASE),
        event("a", "far", BASE + 1000 * SECOND),
        event("a", "y", BASE + 5),
        promise("a", BASE + SECOND),
    ]
    writer.take(arrival(A0, values))
    assert [dead.reason for dead in writer.dead] == [errors.TIME_OUT_OF_RANGE]
    assert [name for name in writer.log.order() if name[0] != "|"] == ["x", "y"]


def test_an_event_later_than_its_feeds_promise_is_dead_whenever_it_was_known() -> None:
    """Known in time, but ten years ahead: whoever reads its entity's windows would be late for ten years."""
    spec = bundle(known_at="known")
    spec.schemas["a"]["fields"].append({"name": "known", "type": {"type": "long", "logicalType": "timestamp-micros"}})
    row = {"at": BASE, "amount": 1.0, "known": BASE + 1}
    rows = [{"id": "x"}, {"id": "far", "at": BASE + 3650 * 86_400 * SECOND}, {"id": "last", "at": BASE + 301 * SECOND - 1}]
    writer = Writer(Log(), spec, (A0,))
    values = [written(spec.schemas["a"], IDS["a"], row | change) for change in rows]
    writer.take(arrival(A0, [promise("a", BASE), *values, promise("a", BASE + SECOND)]))
    assert [(dead.offset, dead.reason) for dead in writer.dead] == [(2, errors.TIME_OUT_OF_RANGE)]
    assert [name for name in writer.log.order() if name[0] != "|"] == ["x", "last"]


def test_an_unknown_schema_is_asked_for_and_an_older_version_is_read() -> None:
    plan = compiled(bundle())
    older = schema("a")
    older["fields"] = [field for field in older["fields"] if field["name"] != "color"]
    value = wire.frame(77, event("a", "old-one", BASE)[5:-1])  # color is the last byte
    assert unknown_ids(plan, arrival(A0, [value, *GOOD])) == [77]
    plan.sources["a"].learn(77, older)
    assert read(plan, arrival(A0, [value, *GOOD])).rows.ids[0] == "old-one"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"id": "long"}, "its field 'id' is a number, where the source has a text"),
        ({"at": None}, "it has no field 'at'"),
        ({"at": "string"}, "its field 'at' is a text, where the source has an instant"),
        ({"amount": "string"}, "its field 'amount' is a text, where the source has a number"),
        ({"color": {"type": "enum", "name": "E", "symbols": ["a b"]}}, "cannot be decoded"),
        ({"color": "nonsense"}, "its field 'color' is of another type, where the source has a text"),
    ],
)
def test_a_record_of_the_sources_name_with_other_fields_is_a_dead_letter(change: dict[str, Any], told: str) -> None:
    plan, other = compiled(bundle()), schema("a")
    fields = [field | {"type": change.get(field["name"], field["type"])} for field in other["fields"]]
    other["fields"] = [field for field in fields if field["type"] is not None]
    plan.sources["a"].learn(77, other)
    found = read(plan, arrival(A0, [GOOD[0], wire.frame(77, GOOD[1][5:]), GOOD[2]]))
    assert len(found.rows) == 2
    assert [(dead.reason, told in dead.message) for dead in found.dead] == [(errors.UNKNOWN_SCHEMA, True)]


def test_another_sources_schema_is_not_taken() -> None:
    plan = compiled(bundle())
    plan.sources["a"].learn(IDS["b"], schema("b"))
    found = read(plan, arrival(A0, [event("b", "x", BASE)]))
    assert [(dead.reason, "world.A" in dead.message) for dead in found.dead] == [(errors.UNKNOWN_SCHEMA, True)]


def test_an_id_that_the_registry_does_not_know_may_be_known_tomorrow() -> None:
    source = compiled(bundle()).sources["a"]
    source.learn(77, None)
    source.forget_unknown()
    assert 77 not in source.readers


def test_a_warning_is_counted_for_events_that_pass() -> None:
    found = read(compiled(bundle(checks=[{"column": "color", "in": ["red"], "else": "warn"}])), arrival(A0, [
        event("a", "x", BASE, color="red"), event("a", "y", BASE, color="blue"), event("a", None, BASE, color="blue"),
    ]))  # fmt: skip
    assert found.rows.ids == ["x", "y"]
    assert list(found.warned.values()) == [1]


def test_each_shard_takes_its_own_events_and_one_of_them_the_broken_ones() -> None:
    values = [*(event("a", f"x{n}", BASE, color=f"c{n}") for n in range(50)), b"broken", event("a", None, BASE, color="c1")]
    found = [read(compiled(bundle(shards=3), shard, 3), arrival(A0, values)) for shard in range(3)]
    assert sorted(name for part in found for name in part.rows.ids) == sorted(f"x{n}" for n in range(50))
    assert sorted(dead.reason for part in found for dead in part.dead) == [errors.MISSING_ID, errors.UNDECODABLE]


def test_no_python_call_is_made_per_event() -> None:
    def calls(count: int) -> int:
        shard = begin(
            State("world", 0, bundle=bundle()), compiled(bundle(checks=[{"column": "amount", "between": [0, 5]}])), (A0, B0)
        )
        batches = [arrival(lane, [event(lane.source, f"{lane.source}{n}", BASE + n) for n in range(count)]) for lane in (A0, B0)]
        step(shard, batches, (), (), NOW)
        again = [
            arrival(lane, [event(lane.source, f"{lane.source}{count + n}", BASE + count + n) for n in range(count)], count)
            for lane in (A0, B0)
        ]
        return calls_of(lambda: step(shard, again, (), (), NOW))

    calls(100)
    assert calls(4_000) - calls(2_000) < 100


def test_a_snapshot_holds_all_of_a_state() -> None:
    writer = Writer(Log(), bundle(), (A0, B0))
    writer.take(
        arrival(A0, [promise("a", BASE), *GOOD, promise("a", BASE + 5)]), arrival(B0, [promise("b", BASE), promise("b", BASE + 5)])
    )
    state, again = writer.shard.state, load(dump(writer.shard.state))
    assert dump(again).meta == dump(state).meta
    assert {name: array.tolist() for name, array in dump(again).arrays.items()} == {
        name: array.tolist() for name, array in dump(state).arrays.items()
    }


def test_a_snapshot_stays_what_it_was_when_the_state_moves_on() -> None:
    writer = Writer(Log(), bundle(), (A0, B0))
    writer.take(arrival(A0, [*GOOD, promise("a", BASE + 5)]), arrival(B0, [promise("b", BASE + 5)]))
    taken = dump(writer.shard.state)
    told, seq = json.dumps(taken.meta), writer.shard.state.seq
    writer.take(
        arrival(A0, [event("a", "later", BASE + 30), promise("a", BASE + 40)], begin=50),
        arrival(B0, [promise("b", BASE + 40)], begin=50),
    )
    assert writer.shard.state.seq > seq
    assert json.dumps(taken.meta) == told
