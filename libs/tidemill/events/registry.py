"""The facts of the domain 'registry'.

Generated from schemas/registry by `python -m tidemill.events.generate`: do not edit.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from tidemill.events.base import Event
from tidemill.events.paths import Schema, load_schema

CauseKind = Literal["labels", "alert", "schedule", "manual"]


class AliasChanged(Event):
    """An alias points to another version."""

    TOPIC: ClassVar[str | None] = "registry.alias-changed.v1"
    SCHEMA: ClassVar[Schema] = load_schema("registry/alias-changed.v1")
    KEY: ClassVar[str] = "model"

    stream: str
    model: str
    alias: str
    version: int | None = None
    previous: int | None = None
    approval: str
    run: str
    rollout: int
    partition: int
    position: int
    """Offset of the cause in the stream's log."""


class VersionRegistered(Event):
    """A run's artifact has a version number."""

    TOPIC: ClassVar[str | None] = "registry.version-registered.v1"
    SCHEMA: ClassVar[Schema] = load_schema("registry/version-registered.v1")
    KEY: ClassVar[str] = "model"

    stream: str
    model: str
    version: int
    run: str
    cause_kind: CauseKind
    cause_id: str
    requester: str
    artifact: str
    report: str
    dataset: str
    code_digest: str
    spec_digest: str
    parameters: dict[str, str]
    rows: int
    from_position: int
    to_position: int
    metrics: dict[str, float]
    baseline: dict[str, float]
    champion: dict[str, float]
    champion_version: int | None = None
    effective_at: int
