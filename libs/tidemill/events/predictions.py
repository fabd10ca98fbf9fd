"""The facts of the domain 'predictions'.

Generated from schemas/predictions by `python -m tidemill.events.generate`: do not edit.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from tidemill.events.base import Event
from tidemill.events.paths import Schema, load_schema

Status = Literal["scored", "no_model", "degraded", "abstained", "failed"]


class Prediction(Event):
    """One model's answer to one trigger."""

    TOPIC: ClassVar[str | None] = None
    SCHEMA: ClassVar[Schema] = load_schema("predictions/prediction.v1")
    KEY: ClassVar[str] = ""

    seq: float
    """Dense number of this record in its output partition (R1)."""
    position: float
    """Offset of the cause in the stream's log."""
    stream_time: float
    """Stream time of the cause, microseconds since the epoch (R7)."""
    event_time: float
    known_time: float
    status: Status
    model: str
    version: int | None = None
    score: float | None = None
    decision: bool | None = None
    threshold: float | None = None
    missing: list[str]
