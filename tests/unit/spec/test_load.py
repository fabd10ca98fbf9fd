"""A use case loads as it stands; what is wrong with one is told by file, line, field, message and fix."""

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tidemill.errors import Rejected
from tidemill.spec import Bundle, SpecError, SpecErrors, load
from tidemill.spec.values import DAY

FLIGHTS = Path(__file__).parents[3] / "usecases" / "flights"
MODEL = "models/late-arrival.yaml"
WATCHED = "[event__dep_delay, event__distance, event__sched_hour, event__carrier, event__origin]"
Change = Callable[[str, str, str], list[SpecError]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the flights use case."""
    return Path(shutil.copytree(FLIGHTS, tmp_path / "case"))


@pytest.fixture
def change(folder: Path) -> Change:
    """Replace a text in a file of the flights use case; what is wrong then."""

    def changed(file: str, old: str, new: str) -> list[SpecError]:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))
        return mistakes(folder)

    return changed


def mistakes(folder: Path) -> list[SpecError]:
    """What is wrong with a use case; every finding says what to do."""
    try:
        load(folder)
    except SpecErrors as errors:
        assert all(one.message and one.fix for one in errors.errors), errors
        return errors.errors
    return []


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


def test_what_was_applied_is_a_spec_of_its_stream_or_rejected() -> None:
    bundle = load(FLIGHTS)
    assert Bundle.applied("flights", bundle.to_json()) == bundle
    for stream, text in (("flights", "{}"), ("flights", "no JSON"), ("other", bundle.to_json())):
        with pytest.raises(Rejected, match="bad-spec"):
            Bundle.applied(stream, text)


def test_ids_do_not_count_in_the_digest() -> None:
    bundle = load(FLIGHTS)
    assert bundle.model_copy(update={"ids": {"departures": 3}}).digest == bundle.digest


def test_a_policy_changes_the_digest_but_not_that_of_the_data(folder: Path) -> None:
    before, path = load(FLIGHTS), folder / MODEL
    path.write_text(path.read_text().replace("below: 0.05", "below: 0.06"))
    policy = load(folder)
    path.write_text(path.read_text().replace("arr_delay > 15", "arr_delay > 20"))
    label = load(folder)
    assert (policy.digest == before.digest, policy.mark == before.mark) == (False, True)
    assert label.mark != before.mark


@pytest.mark.parametrize(
    ("file", "old", "new", "field", "message", "fix"),
    [
        ("stream.yaml", "owner: flight-ops", "ownr: flight-ops", "ownr", "unknown key 'ownr'", "did you mean 'owner'?"),
        ("stream.yaml", "align_wait: 0s", "align_wait: soon", "align_wait", "no duration", ""),
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
        (MODEL, "within: 3d", "within: 999999999w", "label.within", "longer than a spec may name", "36500d"),
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
        ("stream.yaml", "schemas/weather.v1.avsc", '"a\\0b"', "sources.weather.schema", "no file 'a", "known"),
        ("stream.yaml", "schemas/weather.v1.avsc", "a" * 5000, "sources.weather.schema", "aaa... in", "known"),
        ("stream.yaml", "version: 1", "version: !!int abc", "version", "'abc' is no whole number", "write digits"),
        ("stream.yaml", "version: 1", "version: !!timestamp x", "version", "tag !!timestamp", "leave it out"),
        ("stream.yaml", "owner: flight-ops", 'owner: "\\ud800"', "owner", "no text", "UTF-8"),
        ("stream.yaml", "version: 1", "version: 1\n? [a, b]\n: c", "-", "a key is one word", "write `KEY"),
        (MODEL, "labels: 20000", f"labels: {'9' * 5000}", "retrain.on.0.labels", "no whole number", "write digits"),
        ("stream.yaml", "2013-01-01", "0001-01-01T00:00:00+01:00", "sources.departures.accept.from", "no date", "write 2013"),
        ("stream.yaml", "2013-01-01", "9999-12-31T23:59:59-10:00", "sources.departures.accept.from", "no date", "write 2013"),
        (MODEL, "below: 0.05", "below: 1e999", "gates.calibrated.below", "no number that a double", "write one up to"),
        (MODEL, "above: 0.25", "above: 1e999", "monitors.alerts.drift.above", "no number that a double", "write one up to"),
        (MODEL, "1.3 x", f"{'9' * 400} x", "monitors.alerts.performance.above", "more than a double", "write a number"),
        (MODEL, "seed: 7", "seed: -1", "training.seed", "-1 is too small", "write 0 or more"),
        (MODEL, "seed: 7", f"seed: {10**30}", "training.seed", "is too large", "write less than 2147483648"),
        (MODEL, "required: 1", "required: 3000000000", "approval.required", "is too large", "write 100 or less"),
        (MODEL, "[ops-review]", '["../../outside"]', "approval.approvers.0", "not a possible name", "match"),
        (MODEL, "[ops-review]", '[""]', "approval.approvers.0", "not a possible name", "match"),
        (MODEL, "[ops-review]", "[/etc/passwd]", "approval.approvers.0", "not a possible name", "match"),
        (MODEL, "[ops-review]", "ops-review", "approval.approvers", "'ops-review' is no list", "write `[ops-review]`"),
        ("stream.yaml", "dedupe: 7d", "known_at: 5", "sources.departures.known_at", "5 is no delay and no column", "write"),
        ("stream.yaml", "dedupe: 7d", "known_at: -5", "sources.departures.known_at", "no delay and no column", "write"),
        ("stream.yaml", "dedupe: 7d", "known_at: true", "sources.departures.known_at", "no delay and no column", "write"),
        (
            "stream.yaml",
            "entity: origin",
            "entity: origin\n    lateness: 91d",
            "views.origin_traffic.lateness",
            "lateness of 91d",
            "90d",
        ),
        (MODEL, "clears_below: 0.15", "clears_above: 0", "monitors.alerts.drift", "on the wrong side", "write `clears_below`"),
        (MODEL, f"of: {WATCHED}", "of: []", "monitors.alerts.drift.of", "no choice of features", "write `top 10"),
        (MODEL, f"of: {WATCHED}", "of: top 0 features", "monitors.alerts.drift.of", "no choice", "write `top 10"),
        (MODEL, "rows: all", "rows: {last: x}", "training.rows.last", "no duration", "write a whole number"),
        (MODEL, "rows: all", "rows: some", "training.rows", "'some' is not possible", "one of 'all' or write `{last: ...}`"),
        ("stream.yaml", "stream: flights", "stream: 5", "stream", "5 is no text", "in quotes"),
        ("stream.yaml", "dedupe: 7d", "dedupe:", "sources.departures.dedupe", "nothing stands here", "write a whole number"),
        ("stream.yaml", "dedupe: 7d", f"dedupe: {'a' * 5000}", "sources.departures.dedupe", "aaa...", "write a whole number"),
        ("stream.yaml", "owner: flight-ops", "owner:", "owner", "nothing stands here", "write a word"),
        ("stream.yaml", "between: [-120, 3000]", "between: [a]", "sources.departures.checks.1.between", "no pair", "write [LOW"),
        ("stream.yaml", "[EWR, JFK, LGA]", "[[EWR]]", "sources.departures.checks.0.in.0", "is no text", "or write digits"),
        (
            "stream.yaml",
            "{agg: count, over: [1h, 24h]}",
            "7",
            "views.origin_traffic.features.departures",
            "7 is no mapping",
            "write `{agg: ..., over: ...}`",
        ),
        ("schemas/arrival.v1.avsc", '"Arrival"', '"Arrival', "-", "no usable Avro schema: no JSON", "quote"),
        ("schemas/arrival.v1.avsc", '"flights"', '"tidemill.mine"', "-", "the platform's own", "choose another"),
        ("schemas/weather.v1.avsc", '"name": "Observation",', "", "-", "record lacks `name`", 'write `"name"'),
        ("schemas/weather.v1.avsc", '"name": "Observation"', '"name": "a.B"', "-", "has dots", "`namespace`"),
        ("schemas/weather.v1.avsc", '"fields": [', '"feilds": [', "-", "record lacks `fields`", 'write `"fields"'),
        ("schemas/weather.v1.avsc", '"fields": [', '"fields": 5, "x": [', "-", "5 is no `fields`", 'write `"fields"'),
        ("schemas/weather.v1.avsc", '"fields": [', '"fields": [5,', "-", "place 1 lacks `name`", 'write `"name"'),
        ("schemas/weather.v1.avsc", '"name": "temp"', '"name": "dewp"', "dewp", "two fields of this name", "another name"),
        ("schemas/weather.v1.avsc", '"name": "temp"', '"name": "te mp"', "-", "'te mp' is no field's name", "letters"),
        ("schemas/weather.v1.avsc", '"type": "string",', "", "observation_id", "the field lacks `type`", 'write `"type"'),
        ("schemas/weather.v1.avsc", '"type": "string"', '"type": 5', "observation_id", "5 is no type", 'write `"type"'),
        (
            "schemas/weather.v1.avsc",
            '"type": "string"',
            '"type": {"type": "array"}',
            "observation_id",
            "array lacks `items`",
            "write",
        ),
        ("schemas/weather.v1.avsc", '"type": "string"', '"type": "text"', "observation_id", "unknown type 'text'", "string"),
        ("schemas/weather.v1.avsc", '"type": "string"', '"type": []', "observation_id", "a union has types", "null"),
        ("schemas/weather.v1.avsc", '"timestamp-micros"', '["a"]', "observed_at", "['a'] is no logical type", "write a word"),
        ("schemas/weather.v1.avsc", '"doc": "Airport."', '"doc": NaN', "-", "that JSON cannot say", "NaN"),
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


def test_a_cause_that_is_none_is_told_with_the_four(change: Change) -> None:
    (error,) = change(MODEL, "- manual", "- mannual")
    assert (error.field, error.message) == ("retrain.on.4", "'mannual' is no cause")
    assert error.fix == "write one of `labels: N`, `alert: NAME`, `every: DURATION`, `manual`"
    assert error.line == (FLIGHTS / MODEL).read_text().splitlines().index("    - manual") + 1


def test_of_a_value_that_may_be_several_things_only_the_fitting_one_is_asked(change: Change) -> None:
    (error,) = change(MODEL, "rows: all", "rows: {last: x}")
    assert error.field == "training.rows.last"


def test_a_value_that_cannot_be_read_is_told_once(change: Change) -> None:
    (error,) = change(MODEL, "seed: 7", "seed: !!int x")
    assert error.field == "training.seed"


def test_an_instant_is_a_long(change: Change) -> None:
    (error,) = change("schemas/weather.v1.avsc", '"type": "long"', '"type": "string"')
    assert (error.file, error.field, error.message) == ("stream.yaml", "sources.weather.time", "column 'observed_at' is no instant")


def test_a_repeated_field_is_refused_at_any_depth(change: Change) -> None:
    twice = (
        '{"type": "array", "items": {"type": "record", "name": "T", "fields": ['
        + ", ".join(2 * ['{"name": "x", "type": "int"}'])
        + "]}}"
    )
    (error,) = change("schemas/weather.v1.avsc", '"type": "string"', f'"type": {twice}')
    assert (error.field, error.message) == ("observation_id.x", "no usable Avro schema: flights.T has two fields of this name")


@pytest.mark.parametrize("file", ["stream.yaml", MODEL, "schemas/weather.v1.avsc"])
def test_a_file_that_is_not_utf_8_is_told_with_the_line_of_its_first_such_byte(folder: Path, file: str) -> None:
    lines = (folder / file).read_bytes().splitlines()
    lines[2] += " é".encode("latin-1")
    (folder / file).write_bytes(b"\n".join(lines))
    (error,) = mistakes(folder)
    assert error == SpecError(file, 3, "-", "the byte 0xe9 is not UTF-8", "save it as UTF-8")


def test_a_mark_of_utf_8_is_no_part_of_a_file(folder: Path) -> None:
    for file in ("stream.yaml", MODEL, "schemas/weather.v1.avsc"):
        (folder / file).write_bytes(b"\xef\xbb\xbf" + (folder / file).read_bytes())
    assert load(folder) == load(FLIGHTS)


def test_a_control_character_is_told_with_its_line(change: Change) -> None:
    (error,) = change("stream.yaml", "owner: flight-ops", "owner: \x07")
    assert (error.line, error.message) == (4, "no YAML: the character 0x0007")


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "[a]\n", "5\n"])
def test_a_file_without_keys_is_told_what_it_needs(folder: Path, text: str) -> None:
    (folder / MODEL).write_text(text)
    (error,) = mistakes(folder)
    assert (error.file, error.line, error.field) == (MODEL, 1, "-")
    assert error.fix.startswith("write `{version: ..., model: ..., owner: ..., trigger: ...")


@pytest.mark.parametrize("name", ["late.yml", "late.yaml.old", "notes.txt"])
def test_a_file_among_the_models_that_nobody_would_read_is_told(folder: Path, name: str) -> None:
    (folder / "models" / name).write_text("version: 1")
    (error,) = mistakes(folder)
    assert (error.file, error.message) == (f"models/{name}", "is not read as a model")
    assert error.fix.startswith("name it late.yaml") or name != "late.yml"


def test_what_an_editor_hides_among_the_models_is_not_looked_at(folder: Path) -> None:
    (folder / "models" / ".late-arrival.yaml.swp").write_bytes(b"\0\xff")
    assert load(folder) == load(FLIGHTS)


@pytest.mark.parametrize(
    "text", ["a: &a [*a]", "[" * 5000, "\n".join(f"{b}: &{b} [{', '.join(10 * [f'*{a}'])}]" for a, b in pairwise("abcdefghi"))]
)
def test_a_file_without_end_is_told(folder: Path, text: str) -> None:
    (folder / MODEL).write_text(f"a: &a [1]\n{text}" if text.startswith("b") else text)
    (error,) = mistakes(folder)
    assert (error.file, error.message) == (MODEL, "nested without end")


def test_all_files_are_told_at_once(folder: Path) -> None:
    (folder / "stream.yaml").write_text("version: [1")
    (folder / MODEL).write_text("version: [1")
    (folder / "models" / "late.yml").write_text("")
    assert [one.file for one in mistakes(folder)] == ["models/late-arrival.yaml", "models/late.yml", "stream.yaml"]


def test_a_check_whose_bounds_are_the_wrong_way_round_is_told_so(change: Change) -> None:
    (error,) = change("stream.yaml", "between: [-120, 3000]", "between: [3000, -120]")
    assert (error.field, error.message) == ("sources.departures.checks.1", "nothing is between 3000.0 and -120.0")


@pytest.mark.parametrize(("ours", "theirs", "meet"), [("long", "double", False), ("float", "double", False), ("int", "long", True)])
@pytest.mark.parametrize(("column", "field"), [("carrier", "entities.carrier"), ("flight", "label.match")])
def test_a_key_is_written_alike_in_all_sources(folder: Path, ours: str, theirs: str, meet: bool, column: str, field: str) -> None:
    """The hash of 42 is not that of 42.0, nor that of a float's 0.1 the hash of the double that equals it."""
    for source, kind in (("departure", ours), ("arrival", theirs)):
        path = folder / "schemas" / f"{source}.v1.avsc"
        schema = json.loads(path.read_text())
        others = [one for one in schema["fields"] if one["name"] != column]
        schema["fields"] = [*others, {"name": column, "type": kind}]
        path.write_text(json.dumps(schema))
    (folder / MODEL).write_text((folder / MODEL).read_text().replace("match: flight_id", f"match: {column}"))
    errors = mistakes(folder)
    assert [one.field for one in errors] == ([] if meet else [field])
    assert all("equal keys would not meet" in one.message for one in errors)


def test_all_mistakes_are_told_at_once(folder: Path) -> None:
    for file, old, new in (
        ("stream.yaml", "agg: max", "agg: big"),
        ("stream.yaml", "dedupe", "dedup"),
        (MODEL, "seed: 7", "seed: x"),
    ):
        (folder / file).write_text((folder / file).read_text().replace(old, new, 1))
    assert {(one.file, one.field) for one in mistakes(folder)} == {
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
