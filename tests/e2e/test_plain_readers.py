"""What Tidemill says is read without Tidemill: by stock clients, the addresses in `tidemill status`, and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tests.e2e.demo_site import Demo
from tidemill.settings import cache_dir

HERE = Path(__file__).parent
PREDICTIONS, FEATURES, DEPARTURES = "predictions.flights", "features.flights", "raw.flights.departures"
TOPICS = (PREDICTIONS, FEATURES, DEPARTURES)
CONTROL = {"SpecAdopted", "ModelSwitched", "Progressed"}
UNREACHABLE = ("EAI_AGAIN", "ENOTFOUND", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH", "ENOTCACHED")
"""What npm says where there is no network."""

Said = dict[str, list[dict[str, str]]]
"""A reader's lines, by topic."""


@pytest.fixture(scope="module")
def by_python(demo: Demo) -> Said:
    """Everything, as a confluent-kafka consumer with the stock AvroDeserializer reads it; isolated, so that no path leads here."""
    return said(demo, [sys.executable, "-I", str(HERE / "plain_reader.py")], *TOPICS)


@pytest.fixture(scope="module")
def client() -> Path:
    """The Node program with the packages of its lock file, which are fetched once."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no Node here")
    source, files = HERE / "node", (".npmrc", "package.json", "package-lock.json", "reader.mjs")
    content = hashlib.sha256(b"".join((source / name).read_bytes() for name in files)).hexdigest()
    home = cache_dir() / "node" / content[:16]
    if not (home / "node_modules").exists():
        _install(source, home, files)
    return home / "reader.mjs"


def _install(source: Path, home: Path, files: tuple[str, ...]) -> None:
    """Through a folder of its own, so that the cache never holds half a client."""
    home.parent.mkdir(parents=True, exist_ok=True)
    partial = home.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for name in files:
        shutil.copy(source / name, partial)
    done = subprocess.run(["npm", "ci"], cwd=partial, capture_output=True, text=True, check=False)
    if any(reason in done.stderr for reason in UNREACHABLE):
        pytest.skip("the Node client was not fetched yet, and there is no network")
    assert done.returncode == 0, done.stderr
    partial.rename(home)


def said(demo: Demo, command: list[str], *topics: str) -> Said:
    """What a reader prints of topics."""
    status = json.dumps(demo.status())
    done = subprocess.run([*command, *topics], input=status, cwd=demo.data, stdout=subprocess.PIPE, text=True, check=True)
    found: Said = defaultdict(list)
    for line in done.stdout.splitlines():
        record = json.loads(line)
        found[record.pop("topic")].append(record)
    return found


def keys(records: list[dict[str, str]], name: str) -> list[str]:
    return [record["key"] for record in records if record["name"] == name]


def test_there_is_one_prediction_for_each_departure_keyed_by_its_id(by_python: Said) -> None:
    departures = keys(by_python[DEPARTURES], "Departure")
    assert len(departures) == len(set(departures)) > 20_000
    assert {record["name"] for record in by_python[PREDICTIONS]} == {"Prediction"}
    assert Counter(keys(by_python[PREDICTIONS], "Prediction")) == Counter(departures)


def test_vectors_outcomes_and_control_records_are_read_from_features(by_python: Said) -> None:
    features = by_python[FEATURES]
    assert {record["name"] for record in features} == {"Vector", "Outcome", "Unlabelled", *CONTROL}
    departures = keys(by_python[DEPARTURES], "Departure")
    assert Counter(keys(features, "Vector")) == Counter(departures)
    outcomes = Counter(keys(features, "Outcome"))
    assert set(outcomes) <= set(departures)
    assert outcomes.most_common(1)[0][1] == 1
    assert len(outcomes) > 20_000


def test_kafkajs_reads_predictions_with_no_codec_added(demo: Demo, client: Path, by_python: Said) -> None:
    found = said(demo, ["node", str(client)], PREDICTIONS)
    assert found[PREDICTIONS] == by_python[PREDICTIONS]


def test_kafkajs_reads_features_with_an_lz4_codec(demo: Demo, client: Path, by_python: Said) -> None:
    found = said(demo, ["node", str(client), "--lz4"], FEATURES)
    assert found[FEATURES] == by_python[FEATURES]
