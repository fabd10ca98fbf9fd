"""What a data-plane service is: a pure fold over batches of a log, and the values that pass between it and the loop.

A fold sees no clock, no randomness, no Kafka. The loop (`bus.loop.run`) gives it consecutive records, takes its rows, numbers,
suppresses, sends, snapshots. The size of a batch may change no bit of what comes out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from tidemill.events import wire
from tidemill.events.blobs import Blobs

I8 = npt.NDArray[np.int64]
Headers = list[tuple[str, bytes]]

ABOUT: Final = np.dtype([("trace_high", "<u8"), ("id_hash", "<u8"), ("position", "<i8")])
"""The trigger that a row is about: `telemetry.trace_high(stream, source)`, `hash64(id)`, log position; zeros where none."""

LINK: Final = np.dtype([("trace_high", "<u8"), ("trace_low", "<u8"), ("span", "<u8")])
"""A span that a row's span links to (`telemetry.link(traceparent)`); zeros where none."""


@dataclass(frozen=True, slots=True)
class Input:
    """A family of topics `<name>.<stream>` that a fold reads.

    A log's records bear the header `tm`, the first of theirs; every other input's values begin with `PREFIX`.
    """

    name: str
    log: bool = False

    def pattern(self, streams: str) -> str:
        """The subscription that librdkafka takes, for the streams that a regular expression matches."""
        return rf"^{self.name}\.({streams})$"


@dataclass(frozen=True, slots=True)
class OutputTopic:
    """Where a logical output goes, and how a restarted worker finds out what it has already said.

    `prefix`: one output partition per input partition; the newest record's sequence number is the commit (R1).
    `scan`: a topic that several writers share, partition 0; rows bear a `ce_id` header, and what the topic has is not said again.
    """

    template: str
    """The topic's name, with `{stream}` where it is the stream's own."""
    tail: Literal["prefix", "scan"] = "prefix"
    hops: tuple[str, ...] = ("record",)
    """Names for the spans of its rows, see `Rows.hop`."""
    own_trace: bool = False
    """Of a `scan` topic: its events begin traces of their own, named by their ids, so that what comes of one later can link to it."""

    def topic(self, stream: str) -> str:
        """The topic for one stream."""
        return self.template.format(stream=stream)


@dataclass(slots=True)
class Batch:
    """Consecutive records of one partition of one input topic; duplicates and void writers' records are already gone."""

    input: str
    """The input's name, e.g. `log`."""
    stream: str
    partition: int
    offsets: I8
    times: I8
    """When the broker appended each record, ms since the epoch."""
    keys: Blobs
    values: Blobs
    headers: dict[int, Headers]
    """By index, all headers of those records that have any besides the log's own; most have none."""
    seqs: I8
    """Each record's sequence number in this partition, dense."""
    log: npt.NDArray[np.void] | None = None
    """LOG_HEADER rows when the input is a log. Barriers are among the records: a fold has no use for them."""

    _schema_ids: I8 | None = field(default=None, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def schema_ids(self) -> I8:
        """The id in each value's prefix, -1 where there is none."""
        if self._schema_ids is None:
            self._schema_ids = wire.schema_ids(self.values)
        return self._schema_ids


@dataclass(slots=True)
class Rows:
    """Records for one output topic, in order."""

    output: str
    """The logical name, a key of `Fold.outputs`."""
    seq: int
    """The first row's sequence number; the others follow densely, over all batches."""
    keys: Blobs
    values: Blobs
    heads: Blobs | None = None
    """Where the rows have headers of their own, see `bus.heads`; the loop adds `traceparent` to those that are traced."""
    cause: I8 | None = None
    """Index in the batch of each row's cause, for spans and latency; -1 for one of an earlier batch."""
    hop: npt.NDArray[np.uint8] | None = None
    """Each row's index in the output's `hops`; all 0 where None."""
    about: npt.NDArray[np.void] | None = None
    """ABOUT rows: a row about a traced trigger is traced, and linked to the trigger's vector."""
    links: npt.NDArray[np.void] | None = None
    """LINK rows, such as the switch that made a prediction's model champion."""
    failed: int = 0
    """How many of the rows say that their position yielded no result; too large a share of them stops the service (R11)."""

    def __len__(self) -> int:
        return len(self.values)


@dataclass(slots=True)
class Snapshot:
    """A state as arrays and plain JSON. Both may be parts of the live state: the loop copies them."""

    arrays: dict[str, npt.NDArray[Any]]
    meta: dict[str, Any] = field(default_factory=dict)


State = TypeVar("State")


class Fold(Protocol[State]):
    """One data-plane service."""

    name: str
    """The service, e.g. `feature-store`."""
    inputs: tuple[Input, ...]
    outputs: Mapping[str, OutputTopic]

    def digest(self, state: State) -> str:
        """What the state was made by: the fold's code, and the spec that the state holds. An initial state's digest is the code's alone."""

    def initial(self, stream: str, partition: int) -> State:
        """The state before the first record."""

    def prepare(self, state: State, batch: Batch) -> None:
        """Fetch what the step will need (schemas, models that the batch names): the only place for I/O.

        May raise Transient: the same batch comes again.
        """

    def step(self, state: State, batch: Batch) -> tuple[State, list[Rows]]:
        """Fold one batch. Pure; it may change `state` in place, the old one is not used again."""

    def full(self, state: State) -> Collection[str]:
        """Names of the inputs of which the state holds enough for now; the loop pauses them. Empty for a fold of one input."""

    def dump(self, state: State) -> Snapshot:
        """The state as a snapshot."""

    def load(self, stream: str, partition: int, snapshot: Snapshot) -> State:
        """The state of a snapshot that a fold of the same code made."""
