"""The use case `flights`: a year as three sources, and the features that its files ask for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tidemill.feed.timeline import load as timeline_of
from tidemill.feed.timeline import module_of
from tidemill.spec import load
from tidemill.spec.values import DAY

FLIGHTS = Path(__file__).parents[3] / "usecases" / "flights"
HOUR, MINUTE = DAY // 24, DAY // 1440


@pytest.fixture(scope="module")
def sources() -> dict[str, pd.DataFrame]:
    found: dict[str, pd.DataFrame] = module_of(FLIGHTS).sources()
    return found


def test_the_year_is_whole(sources: dict[str, pd.DataFrame]) -> None:
    assert {name: len(rows) for name, rows in sources.items()} == {"departures": 328_521, "arrivals": 327_346, "weather": 26_115}
    departed, arrived = (set(sources[name].flight_id) for name in ("departures", "arrivals"))
    assert (len(departed), len(arrived), sources["weather"].observation_id.nunique()) == (328_521, 327_346, 26_115)
    assert arrived <= departed
    assert len(departed - arrived) == 1_175, "never get a label"


def test_a_label_is_known_at_the_gate_and_not_before(sources: dict[str, pd.DataFrame]) -> None:
    """Departure and time in the air alone would tell it about half an hour early."""
    flown = sources["arrivals"].merge(sources["departures"][["flight_id", "departed_at"]], on="flight_id")
    took = flown.arrived_at - flown.departed_at
    assert took.min() > 0
    assert took.max() < DAY
    assert 30 * MINUTE < (took - flown.air_time * MINUTE).mean() < 32 * MINUTE


def test_each_source_is_fed_in_known_order() -> None:
    bundle = load(FLIGHTS)
    timeline = timeline_of(FLIGHTS, bundle, dict.fromkeys(bundle.schemas, b""))
    assert [lane.source for lane in timeline.lanes] == ["weather", "arrivals", "departures"]
    assert all((np.diff(lane.known) >= 0).all() for lane in timeline.lanes)


def test_a_departure_asks_for_windows_over_all_that_it_has_to_do_with() -> None:
    views = load(FLIGHTS).stream.views.values()
    windows = [(view.source, view.entity, window) for view in views for of in view.features.values() for window in of.over]
    assert len(windows) >= 25
    assert {entity for _, entity, _ in windows} == {"origin", "carrier", "dest", "aircraft"}
    assert {source for source, _, _ in windows} == {"departures", "arrivals", "weather"}
    assert (min(of for *_, of in windows), max(of for *_, of in windows)) == (HOUR, 7 * DAY)
