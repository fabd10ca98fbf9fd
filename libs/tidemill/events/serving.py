"""The facts of the domain 'serving'.

Generated from schemas/serving by `python -m tidemill.events.generate`: do not edit.
"""

from __future__ import annotations

from typing import ClassVar

from tidemill.events.base import Event
from tidemill.events.paths import Schema, load_schema


class ModelPrepared(Event):
    """A serving worker has fetched, verified and loaded a version."""

    TOPIC: ClassVar[str | None] = "serving.model-prepared.v1"
    SCHEMA: ClassVar[Schema] = load_schema("serving/model-prepared.v1")
    KEY: ClassVar[str] = "model"

    stream: str
    model: str
    version: int
    artifact: str
    rollout: int
    order: str
    worker: str
    partitions: list[int]
    content: str = ""
    """Which of the orders with this id is meant: the digest of what it says."""


class ModelRefused(Event):
    """A serving worker will not load a version, and why."""

    TOPIC: ClassVar[str | None] = "serving.model-refused.v1"
    SCHEMA: ClassVar[Schema] = load_schema("serving/model-refused.v1")
    KEY: ClassVar[str] = "model"

    stream: str
    model: str
    version: int
    artifact: str
    rollout: int
    order: str
    worker: str
    reason: str
    content: str = ""
    """Which of the orders with this id is meant: the digest of what it says."""
