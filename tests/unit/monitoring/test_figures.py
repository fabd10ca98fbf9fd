"""Every figure of every window, against plain Python and scikit-learn."""

from __future__ import annotations

import io
import itertools
import json
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import fastavro
import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from tests.unit.monitoring.test_monitoring import shuffled, watch, windows
from tests.unit.serving import scene
from tests.unit.serving.scene import SWITCHES, WINDOW, Trust, features, pairs, serve
from tidemill.bus.fold import Batch
from tidemill.events import wire
from tidemill.events.log import ModelSwitched
from tidemill.events.monitoring import WindowClosed
from tidemill.events.predictions import Prediction
from tidemill.models import artifact

Records = list[tuple[bytes | None, bytes]]


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return Trust.made(tmp_path_factory.mktemp("trust"))


@dataclass
class Window:
    """What came in a window of stream time, as lists."""

    champion: str = ""
    scores: list[float | None] = field(default_factory=list)
    labelled: list[tuple[float, float | None, str]] = field(default_factory=list)
    """(label, score, who scored)"""
    unlabelled: int = 0
    vectors: list[dict[str, Any]] = field(default_factory=list)
    """Since the last switch."""


def read(value: bytes) -> tuple[str, dict[str, Any]]:
    """A record's name and fields, by a stock reader."""
    schema = scene.Schemas().schema(wire.schema_id(value))
    row = fastavro.schemaless_reader(io.BytesIO(value[5:]), fastavro.parse_schema(schema, named_schemas={}), None)
    return schema["name"], row  # type: ignore[return-value]


def brute(records: Records, scores: dict[int, float | None]) -> dict[int, Window]:
    """By begin, the windows of a stream."""
    found: dict[int, Window] = {}
    champion, scorers = "", dict[int, str]()
    for _, value in records:
        name, row = read(value)
        window = found.setdefault(int(row["stream_time"]) // WINDOW * WINDOW, Window(champion))
        if name == ModelSwitched.SCHEMA["name"]:
            champion, window.champion, window.vectors = row["artifact"], row["artifact"], []
        elif name == "Vector":
            window.vectors.append(row)
            window.scores.append(scores[int(row["position"])])
            scorers[int(row["position"])] = champion
        elif name == "Outcome":
            about = int(row["trigger_position"])
            window.labelled.append((row["label"], scores[about], scorers[about]))
        elif name == "Unlabelled":
            window.unlabelled += 1
    return found


def scores_of(predictions: Records) -> dict[int, float | None]:
    rows: list[Any] = [
        fastavro.schemaless_reader(io.BytesIO(value[5:]), fastavro.parse_schema(Prediction.SCHEMA, named_schemas={}), None)
        for _, value in predictions
    ]
    return {int(row["position"]): row["score"] for row in rows}


def calibration_error(labels: list[float], scores: list[float]) -> float:
    """The gaps of scikit-learn's curve, weighted by how many scores each of its ten bins holds."""
    share, mean = calibration_curve(labels, scores, n_bins=10, strategy="uniform")
    counts, _ = np.histogram(scores, bins=10, range=(0, 1))
    return float(np.sum(counts[counts > 0] / len(scores) * np.abs(share - mean)))


def psi(spread: dict[str, Any], values: list[float]) -> float:
    """Half a row is added to every bin, on both sides."""
    counts = [0] * len(spread["shares"])
    for value in values:
        counts[sum(edge <= value for edge in spread["edges"])] += 1
    total = len(values) + 0.5 * len(counts)
    pairs = [((n + 0.5) / total, (share * len(values) + 0.5) / total) for n, share in zip(counts, spread["shares"], strict=True)]
    return sum((actual - wanted) * math.log(actual / wanted) for actual, wanted in pairs)


def agree(said: WindowClosed, window: Window) -> None:
    scored = [score for score in window.scores if score is not None]
    met = [(label, score) for label, score, by in window.labelled if score is not None and by == window.champion]
    assert (said.predictions, said.scored, said.outcomes, said.unlabelled) == (
        len(window.scores), len(scored), len(window.labelled), window.unlabelled,
    )  # fmt: skip
    assert said.score_mean == (pytest.approx(statistics.fmean(scored)) if scored else None)
    if len(scored) > 1:
        inner = statistics.quantiles(scored, n=10, method="inclusive")
        assert said.score_quantiles == pytest.approx([min(scored), *inner, max(scored)])
    labels, values = [label for label, _ in met], [score for _, score in met]
    wanted = {}
    if met:
        wanted = {
            "log_loss": log_loss(labels, values, labels=[0, 1]),
            "brier": brier_score_loss(labels, values, pos_label=1),
            "calibration_error": calibration_error(labels, values),
        }
    if len(set(labels)) == 2:
        wanted["auc"] = roc_auc_score(labels, values)
    assert said.metrics == pytest.approx(wanted)


def agree_on_drift(said: WindowClosed, window: Window) -> None:
    if not window.champion or not window.vectors:
        assert (said.psi, said.missing) == ({}, {})
        return
    reference = json.loads(scene.Store().get_tree(window.champion)[artifact.REFERENCE])
    columns = {s["name"]: [row.get(s["name"], math.nan) for row in window.vectors] for s in reference["features"]}
    there = {name: [value for value in values if not math.isnan(value)] for name, values in columns.items()}
    assert said.missing == pytest.approx({name: 1 - len(there[name]) / len(window.vectors) for name in columns})
    assert said.psi == pytest.approx({s["name"]: psi(s, there[s["name"]]) for s in reference["features"]})


def compare(records: Records, trust: Trust, batches: Any) -> list[WindowClosed]:
    said = serve(records, trust, itertools.repeat(50))
    topics = {"features": records, "predictions": pairs(said["predictions"]), "shadow-predictions": pairs(said["shadows"])}
    found = windows(watch(batches(topics), trust))
    wanted = brute(records, scores_of(topics["predictions"]))
    for window in found[:-1]:  # the last one is closed before its time, by the stream's end
        agree(window, wanted[window.window_start])
        agree_on_drift(window, wanted[window.window_start])
    return found


def whole(topics: dict[str, Records]) -> Iterator[Batch]:
    return itertools.chain(*(scene.batches(name, records, itertools.repeat(10**6)) for name, records in topics.items()))


def in_pieces(topics: dict[str, Records]) -> Iterator[Batch]:
    return shuffled([list(scene.batches(name, records, itertools.repeat(17))) for name, records in topics.items()], 3)


@pytest.mark.parametrize("batches", [whole, in_pieces])
def test_all_figures_are_those_of_plain_python_and_scikit_learn(trust: Trust, batches: Any) -> None:
    records = features({SWITCHES[0]: trust.switch(1, 1), SWITCHES[1]: trust.switch(2, 2)})
    found = compare(records, trust, batches)
    assert sum("auc" in window.metrics for window in found) > 3
    assert sum(bool(window.psi) for window in found) > 3


def test_a_spec_that_takes_a_feature_away_in_the_middle_of_a_window_makes_it_missing(trust: Trust) -> None:
    """The champion goes on, without it; the vectors before and behind have different fields."""
    records = features({SWITCHES[0]: trust.switch(1, 1), 330: scene.narrower()})
    found = compare(records, trust, in_pieces)
    shares = [window.missing["v__m__1h"] for window in found[:-1] if window.missing]
    assert 0 < shares[-3] == 1.0
    assert any(0.3 < share < 1 for share in shares)
    assert {window.missing["v__n__1h"] for window in found[:-1] if window.missing} == {0.0}


def test_a_prediction_without_one_of_its_features_names_it(trust: Trust) -> None:
    records = features({SWITCHES[0]: trust.switch(1, 1), 330: scene.narrower()})
    _, value = pairs(serve(records, trust, itertools.repeat(50))["predictions"])[-1]
    row: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), fastavro.parse_schema(Prediction.SCHEMA, named_schemas={}), None)
    assert (row["status"], "v__m__1h" in row["missing"]) == ("scored", True)
