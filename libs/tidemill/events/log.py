"""The facts of the domain 'log'.

Generated from schemas/log by `python -m tidemill.events.generate`: do not edit.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from tidemill.events.base import Event
from tidemill.events.paths import Schema, load_schema

SwitchAction = Literal["promote", "rollback", "revoke"]


class Barrier(Event):
    """A new writer of the log begins; records of other writers after this are void (R5)."""

    TOPIC: ClassVar[str | None] = None
    SCHEMA: ClassVar[Schema] = load_schema("log/barrier.v1")
    KEY: ClassVar[str] = ""

    seq: float
    """Dense number of this record in its output partition (R1)."""
    position: float
    """Offset of the cause in the stream's log."""
    stream_time: float
    """Stream time of the cause, microseconds since the epoch (R7)."""
    stream: str
    writer: int


class ModelSwitched(Event):
    """From here on another version serves (R12)."""

    TOPIC: ClassVar[str | None] = None
    SCHEMA: ClassVar[Schema] = load_schema("log/model-switched.v1")
    KEY: ClassVar[str] = ""

    seq: float
    """Dense number of this record in its output partition (R1)."""
    position: float
    """Offset of the cause in the stream's log."""
    stream_time: float
    """Stream time of the cause, microseconds since the epoch (R7)."""
    stream: str
    model: str
    version: int
    artifact: str
    report: str
    rollout: int
    action: SwitchAction
    order: str
    approval: str
    run: str
    effective_at: int
    expires: int
    envelopes: list[str]


class Progressed(Event):
    """All sources have passed `stream_time`; `ended` when no source will say more."""

    TOPIC: ClassVar[str | None] = None
    SCHEMA: ClassVar[Schema] = load_schema("log/progressed.v1")
    KEY: ClassVar[str] = ""

    seq: float
    """Dense number of this record in its output partition (R1)."""
    position: float
    """Offset of the cause in the stream's log."""
    stream_time: float
    """Stream time of the cause, microseconds since the epoch (R7)."""
    stream: str
    ended: bool


class SpecAdopted(Event):
    """From here on the data plane follows this spec (R14)."""

    TOPIC: ClassVar[str | None] = None
    SCHEMA: ClassVar[Schema] = load_schema("log/spec-adopted.v1")
    KEY: ClassVar[str] = ""

    seq: float
    """Dense number of this record in its output partition (R1)."""
    position: float
    """Offset of the cause in the stream's log."""
    stream_time: float
    """Stream time of the cause, microseconds since the epoch (R7)."""
    stream: str
    digest: str
    content: str
