"""A demonstration's vectors against a second opinion: each window of each sampled departure, worked out from the log by hand."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e import windows_by_hand as by_hand
from tests.e2e.demo_site import Demo
from tests.e2e.plain_reader import read

SPEC = Path(__file__).parents[2] / "usecases" / "flights" / "stream.yaml"
SAMPLED = 12_000
EXACT = {"count", "min", "max", "last"}
CLOSE = {"sum": 1e-9, "mean": 1e-9, "std": 1e-9}
"""Relative: both sides add doubles, in another order."""


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(SPEC.read_text())
    return found


@pytest.fixture(scope="module")
def log(demo: Demo, spec: dict[str, Any]) -> list[by_hand.Event]:
    status = demo.status()
    return by_hand.events(read(status["kafka"], status["schema_registry"], "log.flights"), spec)


@pytest.fixture(scope="module")
def vectors(demo: Demo) -> dict[int, dict[str, Any]]:
    """By log offset of the departure."""
    status = demo.status()
    records = read(status["kafka"], status["schema_registry"], "features.flights")
    return {int(record.fields["position"]): record.fields for record in records if record.name == "Vector"}


def test_every_window_of_every_sampled_departure_is_as_by_hand(
    spec: dict[str, Any], log: list[by_hand.Event], vectors: dict[int, dict[str, Any]]
) -> None:
    triggers = [event for event in log if event.source == spec["triggers"]["departure"]["source"]]
    assert [event.offset for event in triggers] == sorted(vectors)
    views, present = by_hand.views(spec, log), dict[str, int]()
    aggs = {window.name: window.agg for view in views for window in view.windows}
    for trigger in random.Random(16).sample(triggers, SAMPLED):
        found = vectors[trigger.offset]
        expected, late = by_hand.vector(trigger, views)
        assert found["late"] == late
        assert {name for name in found if "__" in name and not name.startswith("event__")} == expected.keys()
        wrong = {name: (found[name], value) for name, value in expected.items() if not same(found[name], value, aggs[name])}
        assert wrong == {}, f"{trigger.id} at {trigger.offset}: (found, by hand)"
        for name, value in expected.items():
            present[name] = present.get(name, 0) + (not math.isnan(value))
    assert min(present.values()) > SAMPLED / 4, "each feature was put to the test"


def same(found: float, expected: float, agg: str) -> bool:
    """Whether both are missing, or equal as far as the aggregation can be."""
    if math.isnan(expected):
        return math.isnan(found)
    return found == expected if agg in EXACT else math.isclose(found, expected, rel_tol=CLOSE[agg])
