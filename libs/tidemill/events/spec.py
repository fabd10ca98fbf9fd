"""The facts of the domain 'spec'.

Generated from schemas/spec by `python -m tidemill.events.generate`: do not edit.
"""

from __future__ import annotations

from typing import ClassVar

from tidemill.events.base import Event
from tidemill.events.paths import Schema, load_schema


class Applied(Event):
    """A use case's files as one bundle: the stream's spec, its models and its raw schemas."""

    TOPIC: ClassVar[str | None] = "spec.applied.v1"
    SCHEMA: ClassVar[Schema] = load_schema("spec/applied.v1")
    KEY: ClassVar[str] = "stream"

    stream: str
    digest: str
    previous: str | None = None
    author: str
    content: str
    applied_at: int
