"""The facts of the domain 'features'.

Generated from schemas/features by `python -m tidemill.events.generate`: do not edit.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from tidemill.events.base import Event
from tidemill.events.paths import Schema, load_schema

FailedReason = Literal["undecodable", "bad_value", "no_spec"]
UnlabelledReason = Literal["expired", "source_ended", "null_label"]


class Failed(Event):
    """A log position that yielded no vector."""

    TOPIC: ClassVar[str | None] = None
    SCHEMA: ClassVar[Schema] = load_schema("features/failed.v1")
    KEY: ClassVar[str] = ""

    seq: float
    """Dense number of this record in its output partition (R1)."""
    position: float
    """Offset of the cause in the stream's log."""
    stream_time: float
    """Stream time of the cause, microseconds since the epoch (R7)."""
    id_hash: bytes
    reason: FailedReason


class Outcome(Event):
    """A trigger joined with its label."""

    TOPIC: ClassVar[str | None] = None
    SCHEMA: ClassVar[Schema] = load_schema("features/outcome.v1")
    KEY: ClassVar[str] = ""

    seq: float
    """Dense number of this record in its output partition (R1)."""
    position: float
    """Offset of the cause in the stream's log."""
    stream_time: float
    """Stream time of the cause, microseconds since the epoch (R7)."""
    trigger_position: float
    trigger_time: float
    known_time: float
    id_hash: bytes
    model: bytes
    label: float


class Unlabelled(Event):
    """A trigger whose label will not come."""

    TOPIC: ClassVar[str | None] = None
    SCHEMA: ClassVar[Schema] = load_schema("features/unlabelled.v1")
    KEY: ClassVar[str] = ""

    seq: float
    """Dense number of this record in its output partition (R1)."""
    position: float
    """Offset of the cause in the stream's log."""
    stream_time: float
    """Stream time of the cause, microseconds since the epoch (R7)."""
    trigger_position: float
    trigger_time: float
    id_hash: bytes
    model: bytes
    reason: UnlabelledReason
