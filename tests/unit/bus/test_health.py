"""How a process says how it is."""

from __future__ import annotations

import re

import pytest
from fastapi.testclient import TestClient

from tidemill.bus import metrics
from tidemill.bus.health import Health, application


@pytest.fixture
def health() -> Health:
    return Health("tide")


def test_it_is_ready_only_when_its_loop_says_so(health: Health) -> None:
    door = TestClient(application(health))
    assert door.get("/health/live").status_code == 200
    assert (door.get("/health/ready").status_code, door.get("/health/ready").json()["state"]) == (503, "starting")
    health.state, health.lag = "ready", 7
    assert (door.get("/health/ready").status_code, door.get("/health/ready").json()["lag"]) == (200, 7)


def test_a_loop_that_hangs_is_not_alive(health: Health) -> None:
    health.beaten -= 1_000
    assert TestClient(application(health)).get("/health/live").status_code == 503


def test_what_can_be_asked_is_described(health: Health) -> None:
    assert {"/health/live", "/health/ready", "/metrics"} <= application(health).openapi()["paths"].keys()


def test_metrics_bear_the_names_that_prometheus_asks_for(health: Health) -> None:
    metrics.DEAD.labels("raw.s.a", "undecodable").inc()
    metrics.LAG.labels("raw.s.a", "0").set(3)
    said = TestClient(application(health)).get("/metrics").text
    assert 'tidemill_dead_letters_total{reason="undecodable",topic="raw.s.a"} 1.0' in said
    assert 'tidemill_lag_records{partition="0",topic="raw.s.a"} 3.0' in said
    kinds = dict(re.findall(r"^# TYPE (tidemill_\w+) (\w+)$", said, re.MULTILINE))
    assert {"tidemill_records_read_total", "tidemill_records_written_total"} <= kinds.keys()
    for name, kind in kinds.items():
        assert name.endswith("_total") == (kind == "counter"), name
        assert kind != "histogram" or name.endswith(("_seconds", "_records")), name
