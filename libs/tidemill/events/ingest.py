"""The facts of the domain 'ingest'.

Generated from schemas/ingest by `python -m tidemill.events.generate`: do not edit.
"""

from __future__ import annotations

from typing import ClassVar

from tidemill.events.base import Event
from tidemill.events.paths import Schema, load_schema


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
