"""The size of a batch changes no bit: the services' own folds over a demonstration's log, cut otherwise than it was live."""

from __future__ import annotations

import pytest

from services.feature_store import app as feature_store
from services.serving import app as serving
from tests.e2e import chaos_audit as audit
from tests.e2e.demo_site import Demo
from tidemill.bus.fold import Batch
from tidemill.settings import Settings

ONE_BY_ONE = 50_000
"""Records of the log that are given one at a time."""


@pytest.fixture(scope="module")
def settings(demo: Demo) -> Settings:
    demo.status()
    return Settings.load(demo.data)


@pytest.fixture(scope="module")
def log(settings: Settings) -> Batch:
    return audit.taken(settings, "log", "flights").batch


@pytest.fixture(scope="module")
def live(settings: Settings) -> dict[str, audit.Taken]:
    """What the running services said."""
    return {family: audit.taken(settings, family, "flights") for family in ("features", "predictions")}


@pytest.mark.parametrize("size", [7, 500, 5_000])
def test_vectors_and_predictions_are_the_live_ones_in_any_batches(
    settings: Settings, log: Batch, live: dict[str, audit.Taken], size: int
) -> None:
    features, predictions = audit.undisturbed(settings, log, size)
    assert same(features, live["features"].batch)
    assert same(predictions, live["predictions"].batch)


def test_vectors_are_the_live_ones_record_by_record(settings: Settings, log: Batch, live: dict[str, audit.Taken]) -> None:
    one_by_one = audit.folded(feature_store.build(settings), audit.cut(log, 0, ONE_BY_ONE), "features", 1)
    assert len(log) > ONE_BY_ONE
    assert same(one_by_one, audit.cut(live["features"].batch, 0, len(one_by_one)))


def test_predictions_are_the_live_ones_record_by_record(settings: Settings, live: dict[str, audit.Taken]) -> None:
    fold, _ = serving.build(settings)
    assert same(audit.folded(fold, live["features"].batch, "predictions", 1), live["predictions"].batch)


def same(found: Batch, expected: Batch) -> bool:
    """Whether keys and bytes are equal."""
    return (found.keys.tolist(), found.values.tolist()) == (expected.keys.tolist(), expected.values.tolist())
