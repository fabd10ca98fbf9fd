"""The output's tail is the commit (R1), and it must come of the log that is there (R4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from tidemill.bus.consumer import PATIENCE, READ_AT_ONCE, following, good, headers_of, take, watermarks
from tidemill.errors import Transient
from tidemill.events.fixed import dtype_of
from tidemill.events.identity import hash64
from tidemill.events.log_header import PREFIX
from tidemill.events.wire import schema_id

LOOKED_AT: Final = 256
"""Newest records among which the highest number is sought: a dead writer's late batch may stand behind it, with lower ones."""


class OutputAheadOfLog(RuntimeError):
    """The output holds what the log cannot have caused: the log was lost or replaced, and going on would mix two histories."""


class Schemas(Protocol):
    """The registry, as far as a tail needs it."""

    def schema(self, schema_id: int, /) -> dict[str, Any]:
        """The schema of an id."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The newest record of an output partition."""

    seq: int
    position: int
    key: bytes | None
    value: bytes


@dataclass(frozen=True, slots=True)
class Named:
    """The event that a record names: where it is in the log, and its id's hash where the record tells."""

    position: int
    id_hash: int | None


class Lookup:
    """Reads single records of partitions. Every method raises Transient where the broker is away or the topic is not there yet."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset and the one after the newest."""
        found = watermarks(self._consumer, topic)
        if partition not in found:
            raise Transient(f"{topic} has no partition {partition}")
        return found[partition]

    def record(self, topic: str, partition: int, offset: int) -> Message | None:
        """The record at an offset; None where there is none."""
        low, high = self.bounds(topic, partition)
        found = next(self._read(topic, partition, offset, offset + 1), None) if low <= offset < high else None
        return found[0] if found else None

    def newest(self, topic: str, partition: int, count: int) -> list[Message]:
        """The newest records, oldest of them first."""
        low, high = self.bounds(topic, partition)
        return [message for batch in self._read(topic, partition, max(low, high - count), high) for message in batch]

    def topics(self) -> dict[str, int]:
        """Every topic's number of partitions."""
        try:
            return {name: len(topic.partitions) for name, topic in self._consumer.list_topics(timeout=PATIENCE).topics.items()}
        except KafkaException as error:
            raise Transient(f"the broker does not answer: {error}") from error

    def batches(self, topic: str, partition: int, begin: int = 0) -> Iterator[list[Message]]:
        """The records from an offset up to the present end. Only one such reading at a time."""
        low, high = self.bounds(topic, partition)
        yield from self._read(topic, partition, max(low, begin), high)

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def _read(self, topic: str, partition: int, begin: int, end: int) -> Iterator[list[Message]]:
        if begin >= end:
            return
        self._consumer.assign([TopicPartition(topic, partition, begin)])
        while begin < end:
            messages = take(self._consumer, min(READ_AT_ONCE, end - begin), PATIENCE)
            if not messages:
                raise Transient(f"the broker has been silent for {PATIENCE:.0f} s in the middle of {topic}")
            found = [message for message in good(messages) if int(message.offset() or 0) < end]
            begin = max(begin, following(messages).get(partition, 0))
            if found:
                yield found
        self._consumer.unassign()


def tail_of(lookup: Lookup, topic: str, partition: int) -> Tail | None:
    """The record with the highest number of an output partition; None while it is empty."""
    values = [(message.key(), message.value() or b"") for message in lookup.newest(topic, partition, LOOKED_AT)]
    tails = [_tail(key, value) for key, value in values if len(value) >= PREFIX.itemsize]
    return max(tails, key=lambda tail: tail.seq, default=None)


def values_of(lookup: Lookup, header: str, topic: str, partition: int, begin: int = 0) -> set[bytes]:
    """What a partition's records have in a header, from an offset on."""
    headers = (head for batch in lookup.batches(topic, partition, begin) for head in headers_of(batch))
    return {value for head in headers for name, value in head or () if name == header}


def check_tail(lookup: Lookup, schemas: Schemas, tail: Tail, log_topic: str, partition: int) -> None:
    """Raise OutputAheadOfLog unless the log has the record that the tail names, with the id that it names."""
    named = named_by(schemas, tail)
    low, high = lookup.bounds(log_topic, partition)
    if named.position < low and tail.position < high:
        return  # the log was trimmed below a genesis: the snapshot vouches for what is gone
    if tail.position >= high:
        raise OutputAheadOfLog(_ahead(tail, log_topic, partition, f"the log ends before {high}"))
    if named.id_hash is None:
        return
    cause = lookup.record(log_topic, partition, named.position)
    if cause is None or hash64(cause.key() or b"") != named.id_hash:
        raise OutputAheadOfLog(_ahead(tail, log_topic, partition, f"position {named.position} holds another event"))


def code_in(schemas: Schemas, tail: Tail) -> int | None:
    """The mark of the code that made a derived record, where it tells (a vector does)."""
    schema = schemas.schema(schema_id(tail.value))
    if "code" not in {field["name"] for field in schema["fields"]}:
        return None
    return int(np.frombuffer(tail.value, dtype_of(schema), 1)[0]["code"])


def named_by(schemas: Schemas, tail: Tail) -> Named:
    """The event that a derived record names: by `id_hash` (of the trigger, where it has `trigger_position`), else by its key.

    Copies of the log's control records name none.
    """
    schema = schemas.schema(schema_id(tail.value))
    names = {field["name"] for field in schema["fields"]}
    if schema.get("namespace") == "tidemill.log":
        return Named(tail.position, None)
    if "id_hash" not in names:
        return Named(tail.position, hash64(tail.key) if tail.key else None)
    row = np.frombuffer(tail.value, dtype_of(schema), 1)[0]
    return Named(int(row["trigger_position"] if "trigger_position" in names else row["position"]), int(row["id_hash"]))


def _tail(key: bytes | None, value: bytes) -> Tail:
    row = np.frombuffer(value, PREFIX, 1)[0]
    return Tail(int(row["seq"]), int(row["position"]), key, value)


def _ahead(tail: Tail, log_topic: str, partition: int, why: str) -> str:
    return (
        f"output ahead of its log: record {tail.seq} names position {tail.position} of {log_topic}[{partition}], but {why}; "
        "restore the log, or remove what was derived from the lost one"
    )
