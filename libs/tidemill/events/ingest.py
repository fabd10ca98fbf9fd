"""The facts of the domain 'ingest'.

Generated from schemas/ingest by `python -m tidemill.events.generate`: do not edit.
"""

from __future__ import annotations

from typing import ClassVar

from tidemill.events.base import Event
from tidemill.events.paths import Schema, load_schema


class Answered(Event):
    """What became of a raw record whose sender asked for an answer: the reply to a caller's HTTP door, in whichever process that is."""

    TOPIC: ClassVar[str | None] = "ingest.answered.v1"
    SCHEMA: ClassVar[Schema] = load_schema("ingest/answered.v1")
    KEY: ClassVar[str] = "caller"

    caller: str
    """The door's process, from the raw record's header."""
    number: int
    """The door's own number of the question."""
    status: str
    """`accepted`, `duplicate` or `rejected`."""
    partition: int
    """Place in the log of the event (of the first one, for a duplicate); -1 where it is not known."""
    offset: int
    reason: str
    message: str


class SwitchAppended(Event):
    """The switch stands in the log at this position."""

    TOPIC: ClassVar[str | None] = "ingest.switch-appended.v1"
    SCHEMA: ClassVar[Schema] = load_schema("ingest/switch-appended.v1")
    KEY: ClassVar[str] = "model"

    stream: str
    model: str
    version: int
    artifact: str
    rollout: int
    action: str
    order: str
    approval: str
    run: str
    partition: int
    offset: int
    effective_at: int
    stream_time: int | None = None
    """Stream time of its record in the log, microseconds since the epoch (R7); null where an earlier release said it."""


class SwitchRefused(Event):
    """An order that will not be appended, and why."""

    TOPIC: ClassVar[str | None] = "ingest.switch-refused.v1"
    SCHEMA: ClassVar[Schema] = load_schema("ingest/switch-refused.v1")
    KEY: ClassVar[str] = "model"

    stream: str
    model: str
    version: int
    rollout: int
    order: str
    approval: str
    run: str
    reason: str
