"""What stands in `features.<stream>` before a cause, as arrays."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from confluent_kafka import Consumer, Message, TopicPartition

from tidemill.bus.consumer import good, reader, take, watermarks
from tidemill.bus.sequence import behind_log
from tidemill.errors import Refused, Rejected
from tidemill.events import features, fixed, wire
from tidemill.events.blobs import Blobs
from tidemill.events.log import ModelSwitched, SpecAdopted
from tidemill.events.plain import full_name
from tidemill.events.schema_registry import Registry
from tidemill.events.training import PartitionEnd, RunRequested
from tidemill.features.vector import vector_schema
from tidemill.models.rollout import Roster
from tidemill.settings import Settings
from tidemill.trust.keys import KeyRing

logger = logging.getLogger(__name__)

Rows = npt.NDArray[np.void]
_AT_ONCE = 5_000
_WAIT = 1.0
_CONTROL = {kind.full_name(): kind for kind in (SpecAdopted, ModelSwitched)}


@dataclass(frozen=True)
class Past:
    """One partition's records before the cause."""

    partition: int
    vectors: list[Rows]
    """Per schema id."""
    outcomes: Rows
    unlabelled: Rows
    records: int
    """The partition's first so many records are all that was looked at."""


@dataclass
class Reading:
    """What has been read of one partition: values by schema id, in order."""

    partition: int
    end: int | None
    """Sequence number at which it ends at the latest; None: at the cause alone."""
    following: int = 0
    """The next sequence number to take."""
    count: int = 0
    """How many records count."""
    passed: bool = False
    """Whether a record was met that counts no more."""
    values: dict[int, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    control: list[bytes] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether nothing that counts can follow."""
        return self.passed or (self.end is not None and self.following >= self.end)


def read(settings: Settings, registry: Registry, request: RunRequested, ends: Sequence[PartitionEnd]) -> tuple[list[Past], Roster]:
    """All partitions up to the cause, and who serves there, as the cause's own partition has it: each has its copy of every switch.

    Of the cause's own partition it is what stands before its position, and is waited for. Other partitions count up to the cause's
    time, but no farther than `ends`: a quiet one may never pass the cause, and must not hold more when it is read again.
    """
    consumer, topic = reader(settings, "training"), f"features.{request.stream}"
    try:
        begins = [TopicPartition(topic, number, low) for number, (low, _) in sorted(watermarks(consumer, topic).items())]
        until = {request.partition: None, **{end.partition: end.end for end in ends}}
        readings = [read_partition(consumer, registry, request, begin, until[begin.partition]) for begin in begins]
    finally:
        consumer.close()
    own = next(reading for reading in readings if reading.partition == request.partition)
    roster = _roster(request.stream, own.control, registry, KeyRing.load(settings.trust_dir))
    return [_arrays(reading, request, roster, registry) for reading in readings], roster


def read_partition(
    consumer: Consumer, registry: Registry, request: RunRequested, begin: TopicPartition, end: int | None
) -> Reading:
    """One partition as `read` takes it, from its first record on; `end`: as of a Reading."""
    consumer.assign([begin])
    reading = Reading(begin.partition, end)
    while not reading.ended:
        if messages := good(take(consumer, _AT_ONCE, _WAIT)):
            _keep(reading, messages, request, registry)
    return reading


def _keep(reading: Reading, messages: list[Message], request: RunRequested, registry: Registry) -> None:
    values = Blobs.of(list(map(Message.value, messages)))
    where = f"features.{request.stream}[{reading.partition}]"
    heads, places, reading.following = behind_log(values, reading.following, where)
    beyond = _beyond(heads, request, reading.end)
    reading.passed = bool(beyond.any())
    inside = places[: int(np.argmax(beyond))] if reading.passed else places
    counting = values.chosen(inside)
    reading.count += len(counting)
    ids = wire.schema_ids(counting)
    for number in np.unique(ids).tolist():
        into = reading.control if _name(number, registry) in _CONTROL else reading.values[number]
        into += counting.chosen(ids == number)


def _beyond(heads: Rows, request: RunRequested, end: int | None) -> npt.NDArray[np.bool_]:
    """Which records lie behind the cause, or behind the end."""
    if end is None:
        return np.asarray(heads["position"] >= request.position)
    return np.asarray((heads["stream_time"] >= request.at_time) | (heads["seq"] >= end))


def _name(schema_id: int, registry: Registry) -> str:
    schema = registry.schema(schema_id)
    return f"{schema.get('namespace', '')}.{schema.get('name', '')}"


def _roster(stream: str, control: list[bytes], registry: Registry, ring: KeyRing) -> Roster:
    """Who serves behind all of them, by the same rule as serving."""
    roster = Roster(stream)
    for value in control:
        event = wire.decode(value, registry)
        assert isinstance(event, SpecAdopted | ModelSwitched)
        try:
            roster = roster.turned(event, (0, 0, 0), ring)
        except Refused as error:
            logger.warning("switch ignored", extra={"stream": stream, "position": event.position, "why": str(error)})
    return roster


def _arrays(reading: Reading, request: RunRequested, roster: Roster, registry: Registry) -> Past:
    bundle = roster.bundle
    trigger = bundle.models[request.model].trigger_name if bundle and request.model in bundle.models else ""
    name = full_name(vector_schema(bundle, trigger)) if bundle and trigger else ""
    parts: dict[str, list[Rows]] = defaultdict(list)
    for number, values in sorted(reading.values.items()):  # not as they came: a batch's size must not show
        kind = _name(number, registry)
        if kind in (name, features.Outcome.full_name(), features.Unlabelled.full_name()):
            parts[kind].append(_rows(values, registry.schema(number)))
    return Past(
        reading.partition,
        parts[name],
        _one(parts[features.Outcome.full_name()], features.Outcome),
        _one(parts[features.Unlabelled.full_name()], features.Unlabelled),
        reading.count,
    )


def _rows(values: list[bytes], schema: dict[str, Any]) -> Rows:
    dtype = fixed.dtype_of(schema)
    data = b"".join(values)
    if len(data) != dtype.itemsize * len(values):
        raise Rejected("bad-vector", f"a record of {full_name(schema)} is not {dtype.itemsize} bytes long")
    return np.frombuffer(data, dtype)


def _one(parts: list[Rows], kind: type[features.Outcome | features.Unlabelled]) -> Rows:
    """The rows as the newest schema knows them, in the order of positions."""
    empty = np.zeros(0, fixed.dtype_of(kind.SCHEMA))
    names = [name for name in empty.dtype.names or () if name != fixed.FRAME]
    rows = np.concatenate([empty[names], *(part[names] for part in parts)])
    return rows[np.argsort(rows["seq"], kind="stable")]
