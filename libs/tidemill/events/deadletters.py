"""The facts of the domain 'deadletters'.

Generated from schemas/deadletters by `python -m tidemill.events.generate`: do not edit.
"""

from __future__ import annotations

from typing import ClassVar

from tidemill.events.base import Event, Part
from tidemill.events.paths import Schema, load_schema


class DeadHeader(Part):
    """A part of this domain's facts."""

    name: str
    value: bytes


class DeadLetter(Event):
    """A record that could not be taken, with the reason (R11)."""

    TOPIC: ClassVar[str | None] = "dead-letters"
    SCHEMA: ClassVar[Schema] = load_schema("deadletters/dead-letter.v1")
    KEY: ClassVar[str] = "id"

    id: str
    topic: str
    partition: int
    offset: int
    key: bytes | None = None
    value: bytes | None = None
    headers: list[DeadHeader]
    reason: str
    message: str
    service: str
    version: str
    attempt: int
    at: int
