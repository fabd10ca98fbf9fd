"""The facts of the domain 'feed'.

Generated from schemas/feed by `python -m tidemill.events.generate`: do not edit.
"""

from __future__ import annotations

from typing import ClassVar

from tidemill.events.base import Event
from tidemill.events.paths import Schema, load_schema


class Progressed(Event):
    """A replaying feed's promise: nothing of this source known before `until` will follow."""

    TOPIC: ClassVar[str | None] = None
    SCHEMA: ClassVar[Schema] = load_schema("feed/progressed.v1")
    KEY: ClassVar[str] = ""

    source: str
    until: int
    ended: bool
