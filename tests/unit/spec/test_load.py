"""A use case loads as it stands; what is wrong with one is told by file, line, field, message and fix."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tidemill.spec import Bundle, SpecError, SpecErrors, load
from tidemill.spec.values import DAY

FLIGHTS = Path(__file__).parents[3] / "usecases" / "flights"
MODEL = "models/late-arrival.yaml"
Change = Callable[[str, str, str], list[SpecError]]


@pytest.fixture
def change(tmp_path: Path) -> Change:
    """Replace a text in a file of the flights use case; what is wrong then."""

    def changed(file: str, old: str, new: str) -> list[SpecError]:
        folder = tmp_path / "case"
        shutil.copytree(FLIGHTS, folder)
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))
        try:
            load(folder)
        except SpecErrors as errors:
            return errors.errors
        return []

    return changed


def test_the_flights_use_case_loads() -> None:
    bundle = load(FLIGHTS)
    model = bundle.models["late-arrival"]
    assert bundle.stream.order == ["weather", "arrivals", "departures"]
    assert bundle.stream.views["aircraft_history"].features["last_delay"].over == [24 * 3600 * 1_000_000]
    assert (model.trigger_name, model.trigger_source(bundle), model.maturity) == ("departure", "departures", 3 * 86400 * 1_000_000)
    assert model.training.split.test.span == 7 * DAY
    assert model.monitors.alerts["performance"].above is not None
    assert model.monitors.alerts["performance"].above.resolve(0.3) == pytest.approx(0.39)
    assert bundle.views_of("departure") == list(bundle.stream.views)


def test_a_bundle_survives_its_text_and_keeps_its_order() -> None:
    bundle = load(FLIGHTS).model_copy(update={"ids": {"departures": 3}})
    again = Bundle.from_json(bundle.to_json())
    assert again == bundle
    assert again.to_json() == bundle.to_json()
    assert list(again.stream.views) == list(bundle.stream.views)


def test_ids_do_not_count_in_the_digest() -> None:
    bundle = load(FLIGHTS)
    assert bundle.model_copy(update={"ids": {"departures": 3}}).digest == bundle.digest


def test_a_policy_changes_the_digest_but_not_that_of_the_data(tmp_path: Path) -> None:
    before = load(FLIGHTS)
    shutil.copytree(FLIGHTS, tmp_path / "case")
    path = tmp_path / "case" / MODEL
    path.write_text(path.read_text().replace("below: 0.05", "below: 0.06"))
    policy = load(tmp_path / "case")
    path.write_text(path.read_text().replace("arr_delay > 15", "arr_delay > 20"))
    label = load(tmp_path / "case")
    assert (policy.digest == before.digest, policy.mark == before.mark) == (False, True)
    assert label.mark != before.mark


@pytest.mark.parametrize(
    ("file", "old", "new", "field", "message", "fix"),
    [
        ("stream.yaml", "owner: flight-ops", "ownr: flight-ops", "ownr", "unknown key 'ownr'", "did you mean 'owner'?"),
        ("stream.yaml", "shards" if False else "align_wait: 0s", "align_wait: soon", "align_wait", "no duration", ""),
        (
            "stream.yaml",
            "agg: max",
            "agg: maximum",
            "views.origin_traffic.features.delay_max.agg",
            "'maximum' is not possible",
            "one of",
        ),
        ("stream.yaml", "dedupe: 7d", "dedup: 7d", "sources.departures.dedup", "unknown key", "did you mean 'dedupe'?"),
        ("stream.yaml", "else: warn", "esle: warn", "sources.departures.checks.1.esle", "unknown key", "did you mean 'else'?"),
        (
            "stream.yaml",
            "id: flight_id",
            "id: flightid",
            "sources.departures.id",
            "unknown column 'flightid'",
            "did you mean 'flight_id'?",
        ),
        ("stream.yaml", "time: departed_at", "time: dep_delay", "sources.departures.time", "no instant", "logicalType"),
        (
            "stream.yaml",
            "entity: origin",
            "entity: orign",
            "views.origin_traffic.entity",
            "unknown entity",
            "did you mean 'origin'?",
        ),
        (
            "stream.yaml",
            "source: departures",
            "source: departure",
            "views.origin_traffic.source",
            "unknown source",
            "'departures'?",
        ),
        (
            "stream.yaml",
            "of: dep_delay",
            "of: dep_dealy",
            "views.origin_traffic.features.delay_mean.of",
            "unknown column",
            "'dep_delay'?",
        ),
        ("stream.yaml", "of: dep_delay", "of: avg(dep_delay)", "views.origin_traffic.features.delay_mean.of", "not allowed", ""),
        ("stream.yaml", "of: dep_delay", "of: carrier", "views.origin_traffic.features.delay_mean.of", "is a text", "compare"),
        (
            "stream.yaml",
            "over: [1h, 24h]",
            "over: [100d]",
            "views.origin_traffic.features.departures.over",
            "window of 100d",
            "another",
        ),
        ("stream.yaml", "over: [1h, 24h]", "over: [1h, 1h]", "views.origin_traffic.features.departures", "named twice", ""),
        (
            "stream.yaml",
            "entity: origin",
            "entity: origin\n    lateness: 90s",
            "views.origin_traffic.lateness",
            "no multiple",
            "1h",
        ),
        ("stream.yaml", "schemas/weather.v1", "schemas/wether.v1", "sources.weather.schema", "no file", "weather.v1.avsc"),
        ("stream.yaml", "[weather, arrivals, departures]", "[weather, arrivals]", "order", "'departures' stands 0 times", "once"),
        ("stream.yaml", "stream: flights", "stream: Flights_1", "stream", "not a possible name", "match"),
        ("stream.yaml", "version: 1", "version: 1\nversion: 1", "version", "named twice", "keep one"),
        ("stream.yaml", "version: 1", "version: 1\nshards: 2", "shards", "nothing that splits", "split_by"),
        (
            "stream.yaml",
            "aircraft: tailnum",
            "aircraft: tail",
            "views.aircraft_history.entity",
            "unknown column of arrivals",
            "'tailnum'",
        ),
        ("stream.yaml", "version: 1", "version: [1", "-", "no YAML", ""),
        (
            MODEL,
            "trigger: flights.departure",
            "trigger: flights.departur",
            "trigger",
            "unknown trigger",
            "did you mean 'departure'?",
        ),
        (
            MODEL,
            "trigger: flights.departure",
            "trigger: trains.departure",
            "trigger",
            "stream 'trains' is not this one",
            "flights.",
        ),
        (
            MODEL,
            "views: [origin_traffic",
            "views: [origin_trafic",
            "features.views.0",
            "unknown view",
            "did you mean 'origin_traffic'?",
        ),
        (MODEL, "event: [dep_delay", "event: [dep_dly", "features.event.0", "unknown column of departures", "'dep_delay'?"),
        (MODEL, "event: [dep_delay", "event: [flight_id, dep_delay", "features.event.0", "is the event's id", ""),
        (MODEL, "value: arr_delay > 15", "value: arr_delay", "label.value", "is a number, not a boolean", "compare"),
        (MODEL, "match: flight_id", "match: flight", "label.match", "unknown column of arrivals", "'flight_id'?"),
        (
            MODEL,
            "metric: log_loss, on: test, below: baseline",
            "metric: logloss, below: 1",
            "gates.beats-baseline.metric",
            "not possible",
            "",
        ),
        (MODEL, "below: baseline", "above: baseline", "gates.beats-baseline", "less is better", ""),
        (MODEL, "below: baseline", "below: base", "gates.beats-baseline.below", "", ""),
        (MODEL, "- alert: drift", "- alert: drit", "retrain.on.2.alert", "unknown alert 'drit'", "did you mean 'drift'?"),
        (MODEL, "budget: 4 in 30d", "budget: four", "retrain.budget", "no budget", ""),
        (MODEL, "above: 1.3 x test", "above: 1.3 times", "monitors.alerts.performance.above", "no bound", ""),
        (
            MODEL,
            "of: [event__dep_delay,",
            "of: [event__dep_dely,",
            "monitors.alerts.drift.of",
            "unknown feature",
            "'event__dep_delay'?",
        ),
        (MODEL, "test: newest 7d", "test: 7d", "training.split.test", "no slice", ""),
        (MODEL, "window: 1d", "window: 0s", "monitors.window", "too short", ""),
        (MODEL, "within: 3d", "within: 999999999w", "label.within", "longer than 36500d", ""),
        (MODEL, "budget: 4 in 30d", "budget: 0 in 30d", "retrain.budget", "no budget", ""),
        (
            MODEL,
            "clears_below: 0.15",
            "clears_below: 0.9",
            "monitors.alerts.drift",
            "cleared at 0.9, where it is raised already",
            "",
        ),
        (MODEL, "owner: flight-ops", "", "-", "'owner' is missing", "add `owner: ...`"),
        ("schemas/arrival.v1.avsc", '"Arrival"', '"Arrival', "-", "no usable Avro schema", ""),
        ("schemas/arrival.v1.avsc", '"flights"', '"tidemill.mine"', "-", "the platform's own", ""),
    ],
)
def test_a_mistake_is_told_with_its_place_and_its_fix(
    change: Change, file: str, old: str, new: str, field: str, message: str, fix: str
) -> None:
    errors = change(file, old, new)
    fitting = [one for one in errors if one.field == field and message in one.message and fix in one.fix]
    assert fitting, "\n".join(map(str, errors))
    assert all(one.file == file for one in fitting)
    lines = ["", *(FLIGHTS / file).read_text().replace(old, new, 1).splitlines()]
    words = [word for word in field.split(".") if not word.isdigit() and word != "-"]
    assert not words or any(words[-1] in lines[one.line] for one in fitting), fitting


def test_a_check_whose_bounds_are_the_wrong_way_round_is_told_so(change: Change) -> None:
    (error,) = change("stream.yaml", "between: [-120, 3000]", "between: [3000, -120]")
    assert (error.field, error.message.split(":")[0]) == ("sources.departures.checks.1", "nothing is between 3000.0 and -120.0")


@pytest.mark.parametrize(("ours", "theirs", "meet"), [("long", "double", False), ("float", "double", False), ("int", "long", True)])
@pytest.mark.parametrize(("column", "field"), [("carrier", "entities.carrier"), ("flight", "label.match")])
def test_a_key_is_written_alike_in_all_sources(tmp_path: Path, ours: str, theirs: str, meet: bool, column: str, field: str) -> None:
    """The hash of 42 is not that of 42.0, nor that of a float's 0.1 the hash of the double that equals it."""
    folder = tmp_path / "case"
    shutil.copytree(FLIGHTS, folder)
    for source, kind in (("departure", ours), ("arrival", theirs)):
        path = folder / "schemas" / f"{source}.v1.avsc"
        schema = json.loads(path.read_text())
        others = [one for one in schema["fields"] if one["name"] != column]
        schema["fields"] = [*others, {"name": column, "type": kind}]
        path.write_text(json.dumps(schema))
    (folder / MODEL).write_text((folder / MODEL).read_text().replace("match: flight_id", f"match: {column}"))
    errors = []
    try:
        load(folder)
    except SpecErrors as caught:
        errors = caught.errors
    assert [one.field for one in errors] == ([] if meet else [field])
    assert all("equal keys would not meet" in one.message for one in errors)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "case"
    shutil.copytree(FLIGHTS, folder)
    for file, old, new in (
        ("stream.yaml", "agg: max", "agg: big"),
        ("stream.yaml", "dedupe", "dedup"),
        (MODEL, "seed: 7", "seed: x"),
    ):
        (folder / file).write_text((folder / file).read_text().replace(old, new, 1))
    with pytest.raises(SpecErrors) as caught:
        load(folder)
    assert {(one.file, one.field) for one in caught.value.errors} == {
        ("stream.yaml", "views.origin_traffic.features.delay_max.agg"),
        ("stream.yaml", "sources.departures.dedup"),
        (MODEL, "training.seed"),
    }


def test_a_folder_without_a_stream_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(SpecErrors, match=r"stream.yaml:1: is not in "):
        load(tmp_path)
    with pytest.raises(SpecErrors, match=r"stream.yaml:1: cannot be read in .*name a use case's folder"):
        load(FLIGHTS / "stream.yaml")


def test_a_check_is_a_rule_that_nulls_pass() -> None:
    checks = load(FLIGHTS).stream.sources["departures"].checks
    assert [check.rule for check in checks] == ["\"origin\" IN ('EWR', 'JFK', 'LGA')", '"dep_delay" BETWEEN -120.0 AND 3000.0']
