"""The facts of the domain 'training'.

Generated from schemas/training by `python -m tidemill.events.generate`: do not edit.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from tidemill.events.base import Event, Part
from tidemill.events.paths import Schema, load_schema

CauseKind = Literal["labels", "alert", "schedule", "manual"]


class PartitionEnd(Part):
    """Where a run's reading of a partition ends."""

    partition: int
    end: int
    """Sequence number of the first record that the run does not read."""


class DatasetBuilt(Event):
    """The run's immutable data."""

    TOPIC: ClassVar[str | None] = "training.dataset-built.v1"
    SCHEMA: ClassVar[Schema] = load_schema("training/dataset-built.v1")
    KEY: ClassVar[str] = "model"

    run: str
    stream: str
    model: str
    dataset: str
    rows: int
    positives: int
    unlabelled: dict[str, int]
    from_position: int
    to_position: int
    first_time: int
    last_time: int
    spec_digest: str


class RetrainRequested(Event):
    """Somebody wants a retraining."""

    TOPIC: ClassVar[str | None] = "training.retrain-requested.v1"
    SCHEMA: ClassVar[Schema] = load_schema("training/retrain-requested.v1")
    KEY: ClassVar[str] = "model"

    stream: str
    model: str
    requester: str
    reason: str


class RunCompleted(Event):
    """The run's artifact, with all that it came from."""

    TOPIC: ClassVar[str | None] = "training.run-completed.v1"
    SCHEMA: ClassVar[Schema] = load_schema("training/run-completed.v1")
    KEY: ClassVar[str] = "model"

    run: str
    stream: str
    model: str
    cause_kind: CauseKind
    cause_id: str
    requester: str
    artifact: str
    report: str
    dataset: str
    code_digest: str
    spec_digest: str
    seed: int
    parameters: dict[str, str]
    rows: int
    from_position: int
    to_position: int
    metrics: dict[str, float]
    baseline: dict[str, float]
    champion: dict[str, float]
    champion_version: int | None = None
    effective_at: int
    seconds: float


class RunDeclined(Event):
    """A cause that leads to no run, and why."""

    TOPIC: ClassVar[str | None] = "training.run-declined.v1"
    SCHEMA: ClassVar[Schema] = load_schema("training/run-declined.v1")
    KEY: ClassVar[str] = "model"

    stream: str
    model: str
    cause_kind: CauseKind
    cause_id: str
    position: int
    """Offset of the cause in the stream's log."""
    at_time: int
    reason: str


class RunFailed(Event):
    """The run ended without an artifact."""

    TOPIC: ClassVar[str | None] = "training.run-failed.v1"
    SCHEMA: ClassVar[Schema] = load_schema("training/run-failed.v1")
    KEY: ClassVar[str] = "model"

    run: str
    stream: str
    model: str
    reason: str
    detail: str


class RunRequested(Event):
    """A retraining will happen, for this cause."""

    TOPIC: ClassVar[str | None] = "training.run-requested.v1"
    SCHEMA: ClassVar[Schema] = load_schema("training/run-requested.v1")
    KEY: ClassVar[str] = "model"

    run: str
    stream: str
    model: str
    cause_kind: CauseKind
    cause_id: str
    cause_detail: str
    partition: int
    position: int
    """Offset of the cause in the stream's log."""
    at_time: int
    effective_at: int
    requester: str
    spec_digest: str


class RunStarted(Event):
    """A worker fits this run."""

    TOPIC: ClassVar[str | None] = "training.run-started.v1"
    SCHEMA: ClassVar[Schema] = load_schema("training/run-started.v1")
    KEY: ClassVar[str] = "model"

    run: str
    stream: str
    model: str
    worker: str
    attempt: int
    started_at: int
    ends: list[PartitionEnd] = []  # noqa: RUF012 - every instance gets its own
    """Where the features topic's partitions end for this run, but for the cause's: the same in every attempt."""
