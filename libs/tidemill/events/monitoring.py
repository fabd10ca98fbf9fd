"""The facts of the domain 'monitoring'.

Generated from schemas/monitoring by `python -m tidemill.events.generate`: do not edit.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from tidemill.events.base import Event, Part
from tidemill.events.paths import Schema, load_schema

AlertState = Literal["raised", "active", "cleared"]


class WindowAlert(Part):
    """A part of this domain's facts."""

    id: str
    name: str
    severity: str
    state: AlertState


class AlertCleared(Event):
    """A raised alert is over."""

    TOPIC: ClassVar[str | None] = "monitoring.alert-cleared.v1"
    SCHEMA: ClassVar[Schema] = load_schema("monitoring/alert-cleared.v1")
    KEY: ClassVar[str] = "model"

    alert: str
    stream: str
    model: str
    name: str
    metric: str
    value: float
    bound: float
    window_end: int
    position: int
    """Offset of the cause in the stream's log."""
    reason: str = "recovered"
    """`recovered`: value is back behind its bound. `withdrawn`: a new spec no longer has the alert; then value and bound are NaN."""


class AlertRaised(Event):
    """A monitored figure left its bound."""

    TOPIC: ClassVar[str | None] = "monitoring.alert-raised.v1"
    SCHEMA: ClassVar[Schema] = load_schema("monitoring/alert-raised.v1")
    KEY: ClassVar[str] = "model"

    alert: str
    stream: str
    model: str
    name: str
    severity: str
    metric: str
    feature: str | None = None
    value: float
    bound: float
    windows: int
    window_end: int
    position: int
    """Offset of the cause in the stream's log."""
    evidence: dict[str, float]


class WindowClosed(Event):
    """What one model did in one window of event time."""

    TOPIC: ClassVar[str | None] = "monitoring.window-closed.v1"
    SCHEMA: ClassVar[Schema] = load_schema("monitoring/window-closed.v1")
    KEY: ClassVar[str] = "model"

    stream: str
    model: str
    partition: int
    window_start: int
    window_end: int
    position: int
    """Offset of the cause in the stream's log."""
    champion: int | None = None
    predictions: int
    scored: int
    outcomes: int
    outcomes_total: int
    unlabelled: int
    score_mean: float | None = None
    score_quantiles: list[float]
    metrics: dict[str, float]
    shadow_metrics: dict[str, float]
    psi: dict[str, float]
    missing: dict[str, float]
    alerts: list[WindowAlert]
    ended: bool
