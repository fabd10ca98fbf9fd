"""The facts of the domain 'progress'.

Generated from schemas/progress by `python -m tidemill.events.generate`: do not edit.
"""

from __future__ import annotations

from typing import ClassVar

from tidemill.events.base import Event
from tidemill.events.paths import Schema, load_schema


class Progress(Event):
    """How far a service has come in a stream."""

    TOPIC: ClassVar[str | None] = None
    SCHEMA: ClassVar[Schema] = load_schema("progress/progress.v1")
    KEY: ClassVar[str] = "service"

    service: str
    model: str
    event_time: int
    position: int
    """Offset of the cause in the stream's log."""
    run: str | None = None
    """The run that is open after this, if any."""
    hold: int | None = None
    """Event time that a replay may not pass while that run is open (R20), microseconds."""
