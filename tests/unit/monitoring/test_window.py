"""Closing one window: a champion answers for its own predictions, and a figure that rests on too little is not judged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from services.monitoring.drift import Drift
from services.monitoring.model import LABELLED, Watch
from services.monitoring.window import LEAST_VECTORS, Closing, close
from tests.unit.serving import scene
from tests.unit.serving.scene import WINDOW
from tidemill.events.monitoring import AlertRaised, WindowClosed
from tidemill.models.reference import Reference, Spread
from tidemill.spec.model import ModelSpec

REFERENCE = Reference(100, (Spread.of("x", np.arange(100.0)),), ("x",), {"log_loss": 0.4})
GOOD, BAD = (1.0, 0.9), (1.0, 0.1)
WORSE = {"metric": "log_loss", "above": "1.2 x test"}


def model(**alert: Any) -> ModelSpec:
    plain = scene.bundle().models["m"].model_dump(mode="json", by_alias=True)
    return ModelSpec.model_validate(plain | {"monitors": {"window": "30m", "alerts": {"it": alert}}})


def watch(*labelled: tuple[int, tuple[float, float]], version: int | None = 2, shadow: float = 0.5) -> Watch:
    """The open window of champion `version`; each label is (version that scored, (label, score))."""
    rows = np.array([(label, by, score, shadow) for by, (label, score) in labelled], LABELLED)
    return Watch(begin=0, end=WINDOW, labelled=rows, outcomes=len(rows), version=version)


def ended(found: Watch, spec: ModelSpec) -> tuple[WindowClosed, list[AlertRaised]]:
    said = close(found, spec, Closing("small", 0, 7), REFERENCE)
    closed = said[-1]
    assert isinstance(closed, WindowClosed)
    return closed, [fact for fact in said if isinstance(fact, AlertRaised)]


def shifted(vectors: int) -> Watch:
    """All in the first of ten bins, half of them without a value."""
    bins = np.array([vectors // 2] + [0] * (len(REFERENCE.spreads[0].shares) - 1))
    return Watch(begin=0, end=WINDOW, version=2, drift=Drift(vectors, {"x": bins}, {"x": vectors - vectors // 2}))


def test_a_new_champion_is_not_judged_by_what_the_old_one_scored() -> None:
    closed, raised = ended(watch((1, BAD), (1, BAD), (2, GOOD)), model(**WORSE))
    assert closed.metrics["log_loss"] == pytest.approx(-np.log(0.9))
    assert closed.outcomes == 3
    assert raised == []


def test_the_shadow_is_measured_on_the_rows_of_the_champion() -> None:
    found = watch((1, BAD), (2, GOOD))
    found.labelled["shadow"] = [0.1, 0.8]
    assert ended(found, model(**WORSE))[0].shadow_metrics["log_loss"] == pytest.approx(-np.log(0.8))


@pytest.mark.parametrize("version", [3, None])
def test_without_labels_of_its_own_a_window_has_no_realised_figures(version: int | None) -> None:
    closed, raised = ended(watch((1, BAD), (2, BAD), version=version), model(**WORSE))
    assert (closed.metrics, closed.shadow_metrics, raised) == ({}, {}, [])


def after(spec: ModelSpec, *windows: tuple[float, float]) -> list[list[str]]:
    """Which states of the alert windows in a row list, each with one label."""
    found, states = watch(), []
    for one in windows:
        found.labelled = watch((2, one)).labelled
        states.append([alert.state for alert in ended(found, spec)[0].alerts])
    return states


def test_windows_that_are_bad_but_not_in_a_row_raise_nothing() -> None:
    assert after(model(**WORSE, windows=2), BAD, GOOD, BAD, BAD) == [[], [], [], ["raised"]]


def test_an_alert_stays_up_until_its_figure_is_behind_the_bound_that_clears_it() -> None:
    """Log losses of 2.3, 0.4 and 0.1."""
    spec = model(metric="log_loss", above=0.5, clears_below=0.2)
    assert after(spec, BAD, (1.0, 0.7), GOOD) == [["raised"], ["active"], ["cleared"]]


def test_an_alert_below_a_bound_is_cleared_above_the_other() -> None:
    spec = model(metric="log_loss", below=0.2, clears_above=0.5)
    assert after(spec, GOOD, (1.0, 0.7), BAD) == [["raised"], ["active"], ["cleared"]]


@pytest.mark.parametrize(("least", "count"), [(2, 1), (3, 0)])
def test_min_labels_counts_the_labels_that_the_figure_rests_on(least: int, count: int) -> None:
    found = watch((1, BAD), (2, BAD), (2, BAD))
    found.outcomes += 10  # of triggers that nobody scored
    assert len(ended(found, model(**WORSE, min_labels=least))[1]) == count


@pytest.mark.parametrize(("metric", "above"), [("psi", 0.2), ("missing", 0.4)])
@pytest.mark.parametrize(("vectors", "count"), [(LEAST_VECTORS - 1, 0), (LEAST_VECTORS, 1)])
def test_drift_over_few_vectors_is_told_but_not_judged(metric: str, above: float, vectors: int, count: int) -> None:
    closed, raised = ended(shifted(vectors), model(metric=metric, above=above))
    assert getattr(closed, metric)["x"] > above
    assert len(raised) == count
