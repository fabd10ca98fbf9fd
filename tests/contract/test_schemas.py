"""The contracts hold together: schemas, examples, topics, generated types, and the code that uses them."""

import ast
import io
import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import fastavro
import pytest

from tidemill.events import generate, wire
from tidemill.events.base import Event
from tidemill.events.blobs import Blobs
from tidemill.events.columnar import Decoder
from tidemill.events.compatibility import broken
from tidemill.events.paths import schemas_dir
from tidemill.events.topics import Topic, compression_of, control_topics, load_topics, stream_topics, topic_of

ROOT = schemas_dir().parent
SCHEMAS = sorted(schemas_dir().rglob("*.avsc"))
SERVICES = {"ingest", "feature-store", "serving", "monitoring", "training", "registry", "governance"}
PEOPLE = {"cli", "feed", "<source>"}
"""Who else speaks and hears: commands, replays, a use case's own sources."""

by_name = pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: f"{path.parent.name}.{path.stem}")


def kind_of(path: Path) -> type[Event]:
    schema = json.loads(path.read_text())
    kind = wire.event_type(f"{schema['namespace']}.{schema['name']}")
    assert kind is not None
    return kind


def example(path: Path) -> Event:
    return kind_of(path).model_validate_json(path.with_suffix(".example.json").read_text())


@by_name
def test_a_schema_has_its_names_from_its_place(path: Path) -> None:
    schema = json.loads(path.read_text())
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*\.v[1-9]", path.stem)
    words = path.stem.rpartition(".")[0].split("-")
    assert (schema["namespace"], schema["name"]) == (f"tidemill.{path.parent.name}", "".join(map(str.capitalize, words)))
    assert schema["doc"]


@by_name
def test_an_example_round_trips_through_fastavro_and_the_columnar_decoder(path: Path) -> None:
    event = example(path)
    payload = wire.datum(event)
    assert fastavro.schemaless_reader(io.BytesIO(payload), wire.parsed(type(event)), None) == event.model_dump()
    decoded = Decoder(event.SCHEMA).decode(Blobs.of([wire.frame(1, payload)] * 3))
    assert (decoded.bad, len(decoded.frame)) == ([], 3)
    assert list(decoded.frame.columns) == list(type(event).model_fields)
    assert unlisted(decoded.frame.row(2, named=True), event.model_dump()) == event.model_dump()


def unlisted(row: Any, like: Any) -> Any:
    """A row with the maps, which come as lists of {key, value}, as dicts again."""
    if isinstance(like, dict) and isinstance(row, list):
        return {pair["key"]: unlisted(pair["value"], like[pair["key"]]) for pair in row}
    if isinstance(like, dict):
        return {key: unlisted(value, like[key]) for key, value in row.items()}
    if isinstance(like, list):
        return [unlisted(*pair) for pair in zip(row, like, strict=True)]
    return row


def test_every_example_has_its_schema() -> None:
    examples = {path.name.removesuffix(".example.json") for path in schemas_dir().rglob("*.json")}
    assert examples == {path.stem for path in SCHEMAS}


def test_generated_types_are_up_to_date() -> None:
    stale = [path.name for path, text in generate.modules().items() if not path.exists() or path.read_text() != text]
    assert stale == [], "run python -m tidemill.events.generate"


@by_name
def test_a_schema_is_used(path: Path) -> None:
    kind = kind_of(path)
    fact = (path.parent.name, kind.__name__)
    users = [folder for folder in ("libs/tidemill", "services", "usecases") for place in [ROOT / folder] if fact in named(place)]
    assert users, f"nobody uses {'.'.join(fact)}"


@by_name
def test_a_record_travels_in_a_topic(path: Path) -> None:
    kind = kind_of(path)
    topic = topic_of(kind.full_name())
    assert topic is not None
    assert (None if topic.pattern else topic.name) == kind.TOPIC
    if not topic.pattern and topic.name != "dead-letters":
        assert topic.name == f"{path.parent.name}.{path.stem}"


@pytest.mark.parametrize("name", load_topics())
def test_a_topic_is_said_and_heard_and_keeps_what_the_design_demands(name: str) -> None:
    topic = load_topics()[name]
    speakers, hearers = set(topic.producers), set(topic.consumers)
    assert speakers, "nobody says it"
    assert hearers, "nobody hears it"
    assert (speakers | hearers) <= SERVICES | PEOPLE
    assert re.fullmatch(r"[a-z.{}-]+?(\.v\d+)?", name)
    assert topic.config["cleanup.policy"] == "delete"
    assert topic.config["message.timestamp.type"] == "LogAppendTime"
    finite = name.startswith("raw.") or name in ("dead-letters", "ingest.answered.v1")
    assert (int(topic.config["retention.ms"]) > 0) == finite
    to_outsiders = not topic.pattern or "predictions" in name
    assert topic.config.get("compression.type") == ("gzip" if to_outsiders else None)
    for record in topic.records:
        assert record in ("<raw>", "<vector>") or wire.event_type(record) is not None


@pytest.mark.parametrize("kind", [kind_of(path) for path in SCHEMAS], ids=lambda kind: kind.full_name())
def test_who_says_and_who_hears_is_who_the_code_shows(kind: type[Event]) -> None:
    """A service, or the feed, that names a control fact says or hears it, and one that says or hears it names it."""
    topic = topic_of(kind.full_name())
    assert topic is not None
    if topic.pattern or topic.name == "dead-letters":
        return
    fact = (kind.SCHEMA["namespace"].rpartition(".")[2], kind.__name__)
    folders = {name: ROOT / "services" / name.replace("-", "_") for name in SERVICES} | {"feed": ROOT / "libs/tidemill/feed"}
    users = {name for name, folder in folders.items() if fact in named(folder)}
    stated = (set(topic.producers) | set(topic.consumers)) & folders.keys()
    assert users == stated, f"{topic.name}: the code of {sorted(users)} names it, topics.toml says {sorted(stated)}"


@pytest.mark.parametrize("topic", [topic for topic in load_topics().values() if topic.pattern], ids=lambda topic: topic.name)
def test_a_streams_topic_is_used_by_all_who_are_said_to_use_it(topic: Topic) -> None:
    """By its name, or by a record type of its own."""
    family = topic.name.partition(".")[0]
    facts = {(record.split(".")[1], record.split(".")[2]) for record in topic.records if record.startswith("tidemill.")}
    stated = (set(topic.producers) | set(topic.consumers)) & SERVICES
    assert stated
    for service in stated:
        folder = ROOT / "services" / service.replace("-", "_")
        said = any(text == family or text.startswith(f"{family}.") for text in texts(folder))
        assert said or facts & named(folder), f"the code of {service} does not name {topic.name}"


@cache
def texts(folder: Path) -> set[str]:
    """Every text in the folder's code."""
    nodes = [node for path in folder.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


@cache
def named(folder: Path) -> set[tuple[str, str]]:
    """(domain, type) of every event type that code in the folder names."""
    return {found for path in folder.rglob("*.py") for found in named_in(ast.parse(path.read_text()))}


def named_in(tree: ast.Module) -> Iterator[tuple[str, str]]:
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "tidemill.events":
            modules |= {alias.asname or alias.name: domain(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tidemill.events."):
            yield from ((domain(str(node.module)), alias.name) for alias in node.names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            yield modules[node.value.id], node.attr


def domain(module: str) -> str:
    return module.rpartition(".")[2]


def test_the_topics_of_a_stream() -> None:
    made = {topic.name: topic.partitions for topic in stream_topics("flights", ["departures", "weather"], 3)}
    assert made == {
        "raw.flights.departures": 1,
        "raw.flights.weather": 1,
        "log.flights": 3,
        "features.flights": 3,
        "predictions.flights": 3,
        "shadow-predictions.flights": 3,
        "progress.flights": 3,
    }
    assert all(topic.partitions == 1 and "{" not in topic.name for topic in control_topics())


def test_a_producer_compresses_as_its_topics_ask() -> None:
    assert compression_of(["predictions.{stream}", "shadow-predictions.{stream}"]) == "gzip"
    assert compression_of(["features.{stream}"]) == compression_of(["log.{stream}", "dead-letters"]) == "lz4"


def versions(path: Path) -> list[dict[str, Any]]:
    """The schema as it stands in the last commit, and in the commit that changed it before that one."""
    place = str(path.relative_to(ROOT))
    commits = ["HEAD", *git("log", "-2", "--format=%H", "--", place).split()[1:]]
    return [json.loads(text) for commit in commits if (text := git("show", f"{commit}:{place}"))]


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


@by_name
def test_no_schema_changes_incompatibly(path: Path) -> None:
    topic = topic_of(kind_of(path).full_name())
    assert topic is not None
    for old in versions(path):
        assert broken(old, json.loads(path.read_text()), topic.compatibility) == []
