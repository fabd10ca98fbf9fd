"""`tidemill trace` over the real services: from the exported spans, and from the records alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message

from tests.conftest import Stack
from tests.trees import shape
from tests.waiting import until
from tidemill.bus.consumer import read_to_end
from tidemill.bus.control_client import Publisher
from tidemill.cli.trace import trees_of
from tidemill.errors import Refused, Rejected
from tidemill.events.dead import Record, dead_letter
from tidemill.settings import Settings
from tidemill.stack.services import BY_NAME
from tidemill.telemetry.files import read_spans
from tidemill.telemetry.tree import Node

FLIGHTS = Path(__file__).parents[2] / "usecases" / "flights"
SERVICES = ("ingest", "feature-store", "serving")


@dataclass
class Loop:
    """The data plane over two days of flights, every event traced."""

    stack: Stack
    settings: Settings
    stream: str
    triggers: int = 0

    def read(self, family: str) -> list[Message]:
        return [message for batch in read_to_end(self.settings, f"{family}.{self.stream}") for message in batch]

    def command(self, *words: str) -> str:
        command = [sys.executable, "-m", "tidemill.cli.main", *words, "--data-dir", str(self.settings.data_dir)]
        environment = self.stack.environment(self.settings)
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def loop(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    stream = f"t-{time.time_ns():x}"
    folder = tmp_path_factory.mktemp("case") / "case"
    shutil.copytree(FLIGHTS, folder)
    _rename(folder, stream)
    settings = stack.settings(streams=stream, trace_sample=1.0, librdkafka={"group.id": stream})
    loop = Loop(stack, settings, stream)
    loop.command("apply", str(folder), "--author", "tester")
    command = [sys.executable, "-m"]
    lives = [subprocess.Popen([*command, BY_NAME[name].module], env=stack.environment(settings)) for name in SERVICES]
    try:
        fed = loop.command("feed", str(folder), "--no-hold", "--until", "2013-01-03")
        loop.triggers = int(fed.partition("departures: ")[2].split()[0].replace(",", ""))
        until(lambda: len(loop.read("predictions")) >= loop.triggers, "a prediction for each trigger", 90)
        for life in lives:
            life.terminate()
        assert [life.wait(15) for life in lives] == [0] * len(lives)
        yield loop
    finally:
        for life in lives:
            life.kill()
            life.wait()


def _rename(folder: Path, stream: str) -> None:
    for path, old, new in (
        (folder / "stream.yaml", "stream: flights", f"stream: {stream}"),
        (folder / "models" / "late-arrival.yaml", "flights.departure", f"{stream}.departure"),
        *((path, '"namespace": "flights"', f'"namespace": "{stream.replace("-", "_")}"') for path in folder.glob("schemas/*.avsc")),
    ):
        path.write_text(path.read_text().replace(old, new))


LANDED = {"raw": [{"log": [{"vector": ["prediction", {"linked from: raw": [{"log": ["outcome"]}]}]}]}]}


def test_the_exported_spans_of_a_flight_lead_from_its_raw_record_to_its_outcome(loop: Loop) -> None:
    spans = list(read_spans(loop.settings.data_dir))
    by_id = {(span["traceId"], span["spanId"]): span for span in spans}
    outcomes = [span for span in spans if span["name"] == "outcome"]
    assert len(outcomes) > 1_000
    for outcome in outcomes:
        (vector,) = [by_id[link["traceId"], link["spanId"]] for link in outcome["links"]]
        assert vector["name"] == "vector"
        assert [span["name"] for span in _ancestors(vector, by_id)] == ["log", "raw"]
        assert [span["name"] for span in _ancestors(outcome, by_id)] == ["log", "raw"]
    predictions = [span for span in spans if span["name"] == "prediction"]
    assert len(predictions) == len(loop.read("predictions")) == loop.triggers
    for prediction in predictions:
        assert [span["name"] for span in _ancestors(prediction, by_id)] == ["vector", "log", "raw"]


def test_any_prediction_can_be_traced_from_its_spans_or_from_the_records_alone(loop: Loop) -> None:
    messages = loop.read("predictions")
    landed = {span["links"][0]["spanId"] for span in read_spans(loop.settings.data_dir) if span["name"] == "outcome"}
    for message in (messages[0], messages[500], messages[-1]):
        key = (message.key() or b"").decode()
        (seen,), (followed,) = trees_of(key, loop.settings), trees_of(key, loop.settings, records=True)
        assert shape(seen) == shape(followed)
        assert _ids(seen) == _ids(followed)
        vector = seen.children[0].children[0]
        assert (shape(seen) == LANDED) == (vector.span.key[1] in landed)
        prediction = dict(message.headers() or ())["ce_id"].decode()  # type: ignore[union-attr]
        assert shape(trees_of(prediction, loop.settings)[0]) == shape(seen)


def test_the_command_prints_the_tree_for_people_and_for_programs(loop: Loop) -> None:
    key = (loop.read("predictions")[0].key() or b"").decode()
    text = loop.command("trace", key)
    assert all(name in text for name in ("raw", "log", "vector", "prediction", "outcome", "serving", "ms"))
    (tree,) = json.loads(loop.command("trace", key, "--output", "json"))
    assert tree["name"] == "raw"
    assert tree["children"][0]["children"][0]["attributes"]["tidemill.stream_time"].startswith("2013-01-01T")


def test_what_nobody_knows_is_refused(loop: Loop) -> None:
    with pytest.raises(Refused, match="unknown-id"):
        trees_of("no-such-thing", loop.settings)


def test_an_event_that_is_dead_is_found_among_the_dead_letters(loop: Loop) -> None:
    record = Record("raw.somewhere.departures", 0, 7, b"buried", b"x", [])
    letter = dead_letter(record, Rejected("check-failed", "not so"), "ingest", "1", 0)
    with Publisher(loop.settings, "test") as publisher:
        publisher.publish(letter, letter.id)
    with pytest.raises(Refused, match=rf"departures\[0\]:7: check-failed, not so; `tidemill dlq show {letter.id}`"):
        trees_of("buried", loop.settings)


def _ancestors(span: dict[str, Any], by_id: dict[tuple[str, str], dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    while "parentSpanId" in span:
        span = by_id[span["traceId"], span["parentSpanId"]]
        found.append(span)
    return found


def _ids(node: Node) -> set[tuple[str, str]]:
    return {node.span.key}.union(*(_ids(child) for child in node.children))
