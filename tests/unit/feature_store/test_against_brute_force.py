"""The fold against plain Python: every window, every label, every way to cut the log into batches."""

from __future__ import annotations

import io
import itertools
import math
from dataclasses import replace
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.calls import calls_of
from tests.unit.feature_store import brute, small
from tests.unit.feature_store.brute import DAY, HOUR, MINUTE, Event
from tidemill.code import mark
from tidemill.events import wire
from tidemill.events.log_header import EVENT
from tidemill.features import labels
from tidemill.features.labels import Join
from tidemill.features.plan import compile as plan_of
from tidemill.spec.columns import columns_of

WINDOWS = {"5m": 5 * MINUTE, "1h": HOUR, "6h": 6 * HOUR, "24h": DAY, "7d": 7 * DAY}
AGGS = ("count", "sum", "mean", "min", "max", "last", "std")
EXACT = ("count", "min", "max", "last")
VALUES: dict[str, Any] = {
    "x": lambda row: row["x"],
    "x > 1": lambda row: None if row["x"] is None else float(row["x"] > 1),
    "x * 2 + 1": lambda row: None if row["x"] is None else row["x"] * 2 + 1,
}

COUNTS: dict[str, Any] = {"source": "asks", "entity": "who", "features": {"n": {"agg": "count", "over": ["1h"]}}}
"""A view."""

names = st.sampled_from(["a", "b", "c", None])
numbers = st.none() | st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, -1.0])


@st.composite
def events(draw: st.DrawFn) -> list[Event]:
    """A log: known times rise in jumps of up to ten days; event times run behind by up to two, sometimes twenty, or lie ahead."""
    known, found = draw(st.integers(0, 10 * DAY)), []
    for offset in range(1, draw(st.integers(1, 40)) + 1):
        known += draw(st.sampled_from([0, 1, MINUTE, HOUR]) | st.integers(0, 10 * DAY))
        time = known - draw(st.just(0) | st.integers(0, 2 * HOUR) | st.integers(0, 2 * DAY) | st.integers(-20 * DAY, 20 * DAY))
        source = draw(st.sampled_from(["asks", "asks", "tells"]))
        row = {"who": draw(names), "x": draw(numbers), "loud": draw(st.booleans()), "y": draw(numbers)}
        identity = f"q{draw(st.integers(0, 12))}" if source == "tells" else f"q{offset}"
        found.append(Event(offset, source, identity, time, known, row | {"id": identity, "about": None}))
    return brute.in_stream(found)


@st.composite
def views(draw: st.DrawFn) -> dict[str, Any]:
    """A few views with a few features."""
    found = {}
    for number in range(draw(st.integers(1, 3))):
        source = draw(st.sampled_from(["asks", "tells"]))
        features = {}
        for place in range(draw(st.integers(1, 4))):
            of = draw(st.sampled_from(sorted(VALUES))) if source == "asks" else "y"
            over = draw(st.lists(st.sampled_from(sorted(WINDOWS)), min_size=1, max_size=3, unique=True))
            features[f"f{place}"] = {"agg": draw(st.sampled_from(AGGS)), "of": of, "over": over}
        features["n"] = {"agg": "count", "over": ["1h", "24h"]}
        view = {
            "source": source,
            "entity": "who",
            "features": features,
            "lateness": draw(st.sampled_from(["0s", "10m", "1h", "26h"])),
        }
        found[f"v{number}"] = view | ({"where": "loud"} if source == "asks" and draw(st.booleans()) else {})
    return found


def same(found: float, expected: float, exact: bool) -> bool:
    if math.isnan(expected) or math.isnan(found):
        return math.isnan(expected) and math.isnan(found)
    return found == expected if exact else math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-3)


@settings(max_examples=150)
@given(events(), views())
def test_every_window_of_every_trigger_agrees(log: list[Event], chosen: dict[str, Any]) -> None:
    assert_agreement(log, chosen)


def test_a_late_event_between_two_readings_of_one_tile_is_in_the_second() -> None:
    """What the older tiles gave to the first reading is kept, unless one of them changes."""
    start, row = 1_000 * DAY + 30 * MINUTE, {"who": "w", "x": 1.0, "loud": True, "y": 1.0, "about": None}
    told = [("tells", 0), ("asks", 1), ("tells", -10 * MINUTE), ("asks", 3), ("tells", -20 * MINUTE), ("asks", 5)]
    log = [Event(n, source, f"e{n}", start + at, start + n, row | {"id": f"e{n}"}) for n, (source, at) in enumerate(told, 1)]
    features = {"n": {"agg": "count", "over": ["1h"]}, "s": {"agg": "sum", "of": "y", "over": ["1h"]}}
    view = {"source": "tells", "entity": "who", "features": features, "lateness": "0s"}
    spec = small.bundle({"v0": view})
    out = small.parsed(spec, small.fold(small.records(spec, brute.in_stream(log)), itertools.repeat(9)))
    assert [float(vector["v0__n__1h"]) for name, vector in out if name == "vector:ask"] == [1, 2, 3]
    assert_agreement(log, {"v0": view})


def test_who_is_forgotten_does_not_depend_on_the_room() -> None:
    """A table begins with room for 64 entities, and gives rows away when it is full."""
    rng = np.random.default_rng(5)
    known = 100 * DAY + np.cumsum(rng.integers(0, 2 * HOUR, 800))
    times = known - rng.integers(0, 5, 800) // 4 * rng.integers(-DAY, 3 * DAY, 800)
    log = [
        Event(n, "asks", f"q{n}", time, at, {"id": f"q{n}", "who": str(rng.integers(0, 150)), "x": 1.0, "loud": True})
        for n, (time, at) in enumerate(zip(times.tolist(), known.tolist(), strict=True), 1)
    ]
    brute.in_stream(log)
    features = {"n": {"agg": "count", "over": ["1h", "24h"]}, "f": {"agg": "sum", "of": "x", "over": ["6h"]}}
    assert_agreement(log, {"v0": {"source": "asks", "entity": "who", "features": features, "lateness": "10m"}})


def test_an_event_that_lies_far_ahead_of_its_time_changes_nothing_of_other_entities() -> None:
    known = [100 * DAY + n * HOUR for n in range(40)]
    log = [
        Event(
            n,
            "asks",
            f"q{n}",
            at + (60 * DAY if n == 3 else 0),
            at,
            {"id": f"q{n}", "who": "ab"[n % 3 == 0], "x": 1.0, "loud": True},
        )
        for n, at in enumerate(known, 1)
    ]
    view = {"source": "asks", "entity": "who", "features": {"n": {"agg": "count", "over": ["24h"]}}, "lateness": "1h"}
    spec = small.bundle({"v0": view})
    out = small.parsed(spec, small.fold(small.records(spec, brute.in_stream(log)), itertools.repeat(7)))
    rows = [row for name, row in out if name == "vector:ask"]
    assert [float(row["v0__n__24h"]) for row, event in zip(rows, log, strict=True) if event.row["who"] == "a"][-1] == 15
    assert_agreement(log, {"v0": view})


def assert_agreement(log: list[Event], chosen: dict[str, Any]) -> None:
    spec = small.bundle(chosen)
    out = small.parsed(spec, small.fold(small.records(spec, log), itertools.repeat(5)))
    vectors = {int(row["position"]): row for name, row in out if name == "vector:ask"}
    triggers = [event for event in log if event.source == "asks"]
    assert sorted(vectors) == [trigger.offset for trigger in triggers]
    for trigger in triggers:
        row, late = vectors[trigger.offset], False
        for view, said in chosen.items():
            longest = max(WINDOWS[over] for feature in said["features"].values() for over in feature["over"])
            for name, feature in said["features"].items():
                for over in feature["over"]:
                    of = VALUES.get(feature.get("of"), (lambda r: r["y"]) if "of" in feature else None)
                    where = (lambda r: r["loud"]) if "where" in said else None
                    lateness = {"0s": 0, "10m": 10 * MINUTE, "1h": HOUR, "26h": 26 * HOUR}[said["lateness"]]
                    expected, missed = brute.value(
                        log, trigger, said["source"], "who", feature["agg"], of, WINDOWS[over], longest, lateness, where
                    )
                    late |= missed
                    column = f"{view}__{name}__{over}"
                    assert same(float(row[column]), expected, feature["agg"] in EXACT), (column, trigger)
        assert bool(row["late"]) == late


@settings(max_examples=80)
@given(events(), views(), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_the_size_of_a_batch_changes_no_bit(log: list[Event], chosen: dict[str, Any], sizes: list[int]) -> None:
    spec = small.bundle(chosen)
    found = small.records(spec, log, ended=True)
    whole = small.fold(found, itertools.repeat(len(found)))
    assert small.fold(found, itertools.cycle(sizes)) == whole
    assert small.fold(found, itertools.cycle(sizes), reload=True) == whole
    assert small.fold(found, itertools.repeat(1)) == whole


@settings(max_examples=150)
@given(events(), st.sampled_from(["5m", "1h", "2d"]), st.sampled_from(["id", "who"]), st.booleans())
def test_every_trigger_is_joined_or_unlabelled_once_and_in_order(log: list[Event], within: str, match: str, ended: bool) -> None:
    assert_joined(log, within, match, ended, reload=False)


@pytest.mark.parametrize("reload", [False, True])
def test_labels_find_those_who_became_known_late_however_many_wait(reload: bool) -> None:
    """A join begins with room for 256 that wait; of those here nearly all run out of time before an older one."""
    rng = np.random.default_rng(6)
    known = 100 * DAY + np.cumsum(rng.integers(0, 5 * MINUTE, 1_500))
    times = known - rng.integers(0, 3 * DAY, 1_500)
    rows = [{"who": str(rng.integers(0, 300)), "x": 1.0, "loud": True, "y": 1.0, "about": None} for _ in times]
    log = [
        Event(n, "asks" if rng.random() < 0.8 else "tells", f"q{n}", time, at, row | {"id": f"q{n}"})
        for n, (time, at, row) in enumerate(zip(times.tolist(), known.tolist(), rows, strict=True), 1)
    ]
    assert_joined(brute.in_stream(log), "2d", "who", True, reload)


def assert_joined(log: list[Event], within: str, match: str, ended: bool, reload: bool) -> None:
    spec = small.bundle({"v": COUNTS}, within, match)
    out = small.parsed(spec, small.fold(small.records(spec, log, ended), itertools.repeat(3 if len(log) < 50 else 50), reload))
    reasons = ["expired", "source_ended", "null_label"]
    found = [
        ("outcome", int(row["trigger_position"]), int(row["position"]), float(row["label"]))
        if name == "Outcome"
        else (reasons[row["reason"] // 2], int(row["trigger_position"]), int(row["position"]), None)
        for name, row in out
        if name in ("Outcome", "Unlabelled")
    ]

    def label(row: dict[str, Any]) -> float | None:
        return None if row["y"] is None else float(row["y"] > 0)

    length = {"5m": 5 * MINUTE, "1h": HOUR, "2d": 2 * DAY}[within]
    expected = brute.joined(log, "asks", "tells", match, label, length, ended)
    closing = len(log) + 1
    expected = [(what, trigger, closing if what == "source_ended" else by, said) for what, trigger, by, said in expected]
    assert sorted(found) == sorted(expected)
    assert [by for _, _, by, _ in found] == sorted(by for _, _, by, _ in found)


@pytest.mark.parametrize("others", [(), (1_000 * DAY,)])
def test_whether_a_label_counts_does_not_depend_on_who_else_waits(others: tuple[int, ...]) -> None:
    """It is known a day after its trigger is, but six days after its trigger was, of which three are allowed."""
    spec = small.bundle({"v": COUNTS}, "3d")
    start, row = 1_000 * DAY, {"who": "a", "x": 1.0, "loud": True, "y": 1.0, "about": None}
    log = [Event(0, "asks", f"o{at}", at, start, row) for at in others]
    log += [Event(0, "asks", "q", start - 5 * DAY, start, row), Event(0, "tells", "q", start + DAY, start + DAY, row)]
    rows = small.parsed(spec, small.fold(small.records(spec, brute.in_stream(log)), itertools.repeat(9)))
    assert [name for name, _ in rows if name != "vector:ask"] == ["Unlabelled"]


@pytest.mark.parametrize("reload", [False, True])
def test_who_waits_under_an_old_label_rule_is_answered_by_the_new_one(reload: bool) -> None:
    def row(n: int, **more: Any) -> dict[str, Any]:
        return {"id": f"q{n}", "who": None, "x": 1.0, "loud": True, "about": None, "y": None} | more

    def ask(n: int, at: int) -> Event:
        return Event(0, "asks", f"q{n}", at, at, row(n))

    def tell(n: int, at: int, y: float) -> Event:
        return Event(0, "tells", f"q{n}", at, at, row(n, y=y))

    first, second, third = (
        small.bundle({"v": COUNTS}),
        small.bundle({"v": COUNTS}, "2h", value="y > 5"),
        small.bundle({"v": COUNTS}, "2h", "who"),
    )
    found = [
        *small.records(first, [ask(1, 1), ask(2, 2), ask(3, 3), tell(1, 4, 3.0), tell(9, 5, 3.0)]),
        *small.records(second, [tell(2, 6, 3.0), ask(9, 90 * MINUTE)]),
        *small.records(third, [tell(3, 91 * MINUTE, 3.0), ask(4, 4 * HOUR)]),
    ]
    rows = small.parsed(first, small.fold(found, itertools.repeat(4), reload))
    joined = [
        (name, int(row["trigger_position"]), row["label"] if name == "Outcome" else row["reason"] // 2)
        for name, row in rows
        if name in ("Outcome", "Unlabelled")
    ]
    assert joined == [("Outcome", 1, 1.0), ("Outcome", 2, 0.0), ("Unlabelled", 3, 0), ("Unlabelled", 8, 0)]


def test_a_label_that_came_first_is_kept_where_only_the_trigger_is_another() -> None:
    (plan,) = plan_of(small.bundle({"v": COUNTS})).labels
    join = Join.empty(plan)
    assert len(join.fold(to_join([labels.LABEL], key=5, label=1.0, position=1))) == 0
    (found,) = join.under(replace(plan, trigger_source="tells")).fold(to_join([labels.TRIGGER], key=5, position=2))
    assert (found["what"], found["position"], found["label"]) == (labels.OUTCOME, 2, 1.0)


def to_join(kinds: list[int], **columns: Any) -> labels.Records:
    """Records of these kinds; what is not told is 0."""
    blank = {"kind": "i8", "key": "u8", "time": "i8", "stream": "i8", "position": "i8", "id_hash": "u8", "label": "f8"}
    told = {"kind": kinds} | columns
    return labels.Records(**{name: np.full(len(kinds), told.get(name, 0), dtype) for name, dtype in blank.items()})


def test_who_became_known_late_and_has_a_label_takes_no_room() -> None:
    """Each trigger would run out of time before the one before it, and has its label at once; a join begins with room for 256."""
    (plan,) = plan_of(small.bundle({"v": COUNTS}, "2d")).labels
    numbers = np.arange(4_000) // 2 + 1
    records = to_join(
        [labels.TRIGGER, labels.LABEL] * 2_000, key=numbers, position=numbers, stream=DAY, time=DAY - numbers, label=1.0
    )
    join = Join.empty(plan)
    assert join.fold(records)["position"].tolist() == list(range(1, 2_001))
    assert len(join.ring) == 256


def test_numbers_are_dense_and_positions_never_fall() -> None:
    spec = small.bundle({"v": COUNTS})
    log = [
        Event(n, "asks" if n % 3 else "tells", f"q{n // 2}", n, n, {"who": "a", "x": 1.0, "loud": True, "y": 1.0, "about": None})
        for n in range(1, 500)
    ]
    for event in log:
        event.row["id"] = event.id
    out = small.fold(small.records(spec, log, ended=True), itertools.repeat(64))
    rows = [row for _, row in small.parsed(spec, out)]
    assert {int(row["code"]) for row in rows if "code" in (row.dtype.names or ())} == {mark(small.CODE)}
    numbers = [int(row["seq"]) for row in rows]
    assert numbers == sorted(set(numbers))
    assert [int(row["position"]) for row in rows] == sorted(int(row["position"]) for row in rows)
    assert len(out) == numbers[-1] + 2  # the spec's copy is the first record, the end's copy the last


def test_a_stream_without_views_has_vectors_of_its_events_alone() -> None:
    spec = small.bundle({})
    log = [Event(n, "asks", f"q{n}", n, n, {"who": "a", "x": float(n), "loud": True, "id": f"q{n}"}) for n in range(1, 4)]
    rows = small.parsed(spec, small.fold(small.records(spec, log), itertools.repeat(10)))
    assert [(name, float(row["event__x"])) for name, row in rows] == [("vector:ask", 1.0), ("vector:ask", 2.0), ("vector:ask", 3.0)]


def test_a_trigger_that_cannot_be_decoded_is_said_as_failed_and_harms_no_neighbour() -> None:
    spec = small.bundle({"v": COUNTS})
    log = [Event(n, "asks", f"q{n}", n, n, {"who": "a", "x": 1.0, "loud": True, "id": f"q{n}"}) for n in range(1, 5)]
    found = small.records(spec, log)
    found[2] = (*found[2][:4], found[2][4][:-3])
    rows = small.parsed(spec, small.fold(found, itertools.repeat(10)))
    assert [name for name, _ in rows] == ["vector:ask", "Failed", "vector:ask", "vector:ask"]
    assert [float(row["v__n__1h"]) for name, row in rows if name != "Failed"] == [0.0, 1.0, 2.0]


def test_a_new_spec_keeps_the_state_of_views_that_did_not_change() -> None:
    kept = {"source": "asks", "entity": "who", "features": {"n": {"agg": "count", "over": ["1h"]}}}
    first = small.bundle({"kept": kept})
    second = small.bundle({"added": kept | {"where": "loud"}, "kept": kept})
    log = [Event(n, "asks", f"q{n}", n, n, {"who": "a", "x": 1.0, "loud": True, "id": f"q{n}"}) for n in range(1, 7)]
    found = small.records(first, log[:3]) + small.records(second, log[3:])
    out = small.fold(found, itertools.repeat(100))
    newer = [row for name, row in small.parsed(second, out[5:]) if name == "vector:ask"]
    assert [(float(row["kept__n__1h"]), float(row["added__n__1h"])) for row in newer] == [(3.0, 0.0), (4.0, 1.0), (5.0, 2.0)]


def test_a_state_is_read_as_the_new_specs_features_want_it() -> None:
    def view(*features: tuple[str, str]) -> dict[str, Any]:
        return {
            "source": "asks",
            "entity": "who",
            "features": {f"{agg}{n}": {"agg": agg, "of": "x", "over": [over]} for n, (agg, over) in enumerate(features)},
        }

    first = small.bundle({"v": view(("sum", "24h"), ("mean", "7d"))})
    second = small.bundle({"v": view(("mean", "7d"), ("mean", "24h"), ("sum", "7d"))})
    assert first.stream.views.keys() == second.stream.views.keys()
    log = [
        Event(n, "asks", f"q{n}", n * HOUR // 2, n, {"who": "a", "x": float(n), "loud": True, "id": f"q{n}"}) for n in range(1, 200)
    ]
    brute.in_stream(log)
    found = small.records(first, log[:150]) + small.records(second, log[150:])
    out = small.parsed(second, small.fold(found, itertools.repeat(100))[151:])
    for (_, row), event in zip(out, log[150:], strict=True):
        wanted = [
            brute.value(log, event, "asks", "who", agg, VALUES["x"], WINDOWS[over], 7 * DAY, HOUR)[0]
            for agg, over in (("mean", "7d"), ("mean", "24h"), ("sum", "7d"))
        ]
        assert [float(row["v__mean0__7d"]), float(row["v__mean1__24h"]), float(row["v__sum2__7d"])] == pytest.approx(wanted)


@pytest.mark.parametrize("count", [200, 2000])
def test_a_step_makes_no_python_call_per_event(count: int) -> None:
    assert _calls(count) < 1500


def _calls(count: int) -> int:
    """Python function calls of one step over `count` events."""
    from services.feature_store.fold import FeatureStore

    spec = small.bundle(
        {"v": {"source": "asks", "entity": "who", "features": {"m": {"agg": "mean", "of": "x > 1", "over": ["1h", "7d"]}}}}
    )
    row = {"who": "a", "x": 1.0, "loud": True, "y": 1.0, "about": None}
    log = [
        Event(n, "asks" if n % 2 else "tells", f"q{(n + 1) // 2}", n, n, row | {"id": f"q{(n + 1) // 2}"})
        for n in range(1, 2 * count)
    ]
    found = small.records(spec, log)
    store = FeatureStore(small.Schemas(), small.CODE)
    state = store.initial("small", 0)
    first, second = small.batches(found, iter([count, count]))
    store.prepare(state, first)
    state, _ = store.step(state, first)
    return calls_of(lambda: store.step(state, second))


ASK = small.SCHEMAS["asks"]["fields"]
TELL = small.SCHEMAS["tells"]["fields"]
LATER_WRITERS = {
    "a column more": [*TELL, {"name": "z", "type": ["null", "double"], "default": None}],
    "another order": TELL[::-1],
    "a column less": [field for field in TELL if field["name"] != "about"],
}


@pytest.mark.parametrize("fields", LATER_WRITERS.values(), ids=LATER_WRITERS)
def test_writers_of_several_schemas_may_stand_in_one_batch(fields: list[dict[str, Any]]) -> None:
    schema = {"type": "record", "name": "Tell", "fields": fields}
    schemas = small.Schemas({99: schema})
    spec = small.bundle({"v": {"source": "tells", "entity": "who", "features": {"y": {"agg": "sum", "of": "y", "over": ["1h"]}}}})
    row = {"id": "t2", "at": 2, "who": "a", "about": None, "y": 3.0, "z": 1.0}
    datum = io.BytesIO()
    fastavro.schemaless_writer(datum, fastavro.parse_schema(schema, named_schemas={}), row)
    first = Event(1, "tells", "t1", 1, 1, {"id": "t1", "who": "a", "about": None, "y": 2.0})
    asking = Event(3, "asks", "q", 3, 3, {"id": "q", "who": "a", "x": 1.0, "loud": True})
    found = small.records(spec, [first, asking])
    found.insert(2, (EVENT, spec.stream.order.index("tells"), 2, b"t2", wire.frame(99, datum.getvalue())))
    for size in (1, 100):
        out = small.parsed(spec, small.fold(found, itertools.repeat(size), schemas=schemas))
        (vector,) = [row for name, row in out if name == "vector:ask"]
        assert float(vector["v__y__1h"]) == 5.0


def test_what_a_writer_did_not_know_has_the_default_of_the_specs_schema() -> None:
    known = {"type": "record", "name": "Ask", "fields": [*ASK, {"name": "z", "type": "double", "default": 2.5}]}
    spec = small.bundle({"v": COUNTS | {"features": {"z": {"agg": "sum", "of": "z", "over": ["1h"]}}}})
    spec = spec.model_copy(update={"schemas": small.SCHEMAS | {"asks": known}})
    log = [Event(n, "asks", f"q{n}", n, n, {"who": "a", "x": 1.0, "loud": True, "id": f"q{n}"}) for n in range(1, 4)]
    rows = [
        row for name, row in small.parsed(spec, small.fold(small.records(spec, log), itertools.repeat(2))) if name == "vector:ask"
    ]
    assert [(float(row["event__z"]), float(row["v__z__1h"])) for row in rows[1:]] == [(2.5, 2.5), (2.5, 5.0)]


@pytest.mark.parametrize("size", [1, 2, 10])
@pytest.mark.parametrize("written", ["long", "double"])
def test_a_number_is_the_same_key_whoever_wrote_it(written: str, size: int) -> None:
    key = {"name": "k", "type": "long", "default": 7}
    known = {
        name: {"type": "record", "name": name[:-1].title(), "fields": [*small.SCHEMAS[name]["fields"], key]}
        for name in ("asks", "tells")
    }
    spec = small.bundle({"v": COUNTS}, match="k").model_copy(update={"schemas": known})
    teller = {"type": "record", "name": "Tell", "fields": [*TELL, {"name": "k", "type": written}]}
    datum = io.BytesIO()
    fastavro.schemaless_writer(
        datum, fastavro.parse_schema(teller, named_schemas={}), {"id": "t", "at": 3, "who": "a", "about": None, "y": 1.0, "k": 7}
    )
    log = [Event(n, "asks", f"q{n}", n, n, {"who": "a", "x": 1.0, "loud": True, "id": f"q{n}"}) for n in (1, 2)]
    found = [*small.records(spec, log), (EVENT, spec.stream.order.index("tells"), 3, b"t", wire.frame(99, datum.getvalue()))]
    rows = small.parsed(spec, small.fold(found, itertools.repeat(size), schemas=small.Schemas({99: teller})))
    assert [name for name, _ in rows] == ["vector:ask", "vector:ask", "Outcome", "Outcome"]
    assert [float(row["event__k"]) for name, row in rows if name == "vector:ask"] == [7.0, 7.0]


def test_the_default_of_an_instant_is_in_microseconds() -> None:
    at = {"type": "long", "logicalType": "timestamp-millis"}
    fields = [{"name": "at", "type": at, "default": 5}, {"name": "seen", "type": ["null", at], "default": None}]
    found = columns_of({"type": "record", "name": "R", "fields": fields})
    assert [column.default for column in found.values()] == [5_000, None]


@pytest.mark.parametrize("reload", [False, True])
def test_views_that_need_the_same_have_a_state_each_under_whatever_spec(reload: bool) -> None:
    def view(agg: str) -> dict[str, Any]:
        return {"source": "asks", "entity": "who", "features": {"y": {"agg": agg, "of": "x", "over": ["1h"]}}}

    specs = [small.bundle({"m": view("mean")}), *[small.bundle({"m": view("mean"), "s": view("sum")})] * 2]
    log = [Event(n, "asks", f"q{n}", n, n, {"who": "a", "x": 2.0, "loud": True, "id": f"q{n}"}) for n in range(1, 8)]
    found = [record for number, spec in enumerate(specs) for record in small.records(spec, log[2 * number : 2 * number + 2])]
    found += small.records(specs[1], log[6:])
    out = small.parsed(specs[1], small.fold(found, itertools.repeat(3), reload)[3:])
    newer = [row for name, row in out if name == "vector:ask"]
    assert [float(row["m__y__1h"]) for row in newer] == [2.0] * 5
    assert np.nan_to_num([float(row["s__y__1h"]) for row in newer]).tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]
