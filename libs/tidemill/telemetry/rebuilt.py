"""The way of any event from the records alone, for those that left no spans: what a record names is followed from topic to topic.

A prediction names its log position, the log its raw record, a switch its run, a control event its cause. Each hop lasts from the
broker's append of its cause to that of its own record. The ids are those that the spans would have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from confluent_kafka import Message

from tidemill.bus.consumer import browser, own_headers
from tidemill.bus.tail import Lookup
from tidemill.errors import Rejected
from tidemill.events import wire
from tidemill.events.blobs import Blobs
from tidemill.events.envelope import time_text
from tidemill.events.fixed import dtype_of
from tidemill.events.identity import span_id, trace_id
from tidemill.events.log_header import EVENT, HEADER, LOG_HEADER, PREFIX
from tidemill.events.predictions import Prediction
from tidemill.events.schema_registry import Registry
from tidemill.settings import Settings
from tidemill.telemetry.tree import Span

_MS: Final = 1_000_000
_BACK: Final = 2_000
"""Records before the place that a search finds: a dead writer's late batch may stand out of order."""
_SERVICES: Final = {
    "raw": "",
    "log": "ingest",
    "features": "feature-store",
    "predictions": "serving",
    "shadow-predictions": "serving",
}


@dataclass(frozen=True)
class _Record:
    """One record with where it is."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: dict[str, bytes]
    at: int
    """When the broker appended it, ns."""


@dataclass(frozen=True)
class Answer:
    """A prediction's place and the version that gave it: what leads to the switch."""

    span: Span
    stream: str
    partition: int
    position: int
    model: str
    version: int | None


class Rebuilt:
    """Follows records on the broker. Every method raises Transient where broker or registry are away."""

    def __init__(self, settings: Settings) -> None:
        self._registry = Registry(settings.schema_registry)
        self._lookup = Lookup(browser(settings, "trace"))
        self._topics = self._lookup.topics()
        self._streams = re.compile(settings.streams)

    def close(self) -> None:
        """Leave the broker."""
        self._lookup.close()

    def event(self, name: str) -> tuple[list[Span], list[Answer]]:
        """The spans of an event, or of a prediction by its `ce_id`; nothing where no log has it."""
        for stream in sorted(topic.removeprefix("log.") for topic in self._topics if topic.startswith("log.")):
            if self._streams.fullmatch(stream) and (found := self._position(stream, name)) is not None:
                return self._way(stream, *found)
        return [], []

    def _position(self, stream: str, name: str) -> tuple[int, int] | None:
        """The (partition, offset) in the log of an event id, or of the trigger of a prediction."""
        wanted = {name.encode(), name.rpartition("/")[0].encode()} - {b""}
        for partition in range(self._topics.get(f"predictions.{stream}", 0)):
            for message in self._keyed(f"predictions.{stream}", partition, wanted):
                if message.key() == name.encode() or dict(own_headers(message)).get("ce_id") == name.encode():
                    return partition, _stand(message.value())[1]
        for partition in range(self._topics[f"log.{stream}"]):
            for message in self._keyed(f"log.{stream}", partition, {name.encode()}):
                if (stamp := _stamp(_record(message))) is not None and stamp["kind"] == EVENT:
                    return partition, int(message.offset() or 0)
        return None

    def _keyed(self, topic: str, partition: int, wanted: set[bytes]) -> Iterator[Message]:
        for batch in self._lookup.batches(topic, partition):
            keys = list(map(Message.key, batch))
            if not wanted.isdisjoint(key for key in keys if key is not None):
                yield from (message for message, key in zip(batch, keys, strict=True) if key in wanted)

    def _way(self, stream: str, partition: int, position: int) -> tuple[list[Span], list[Answer]]:
        """Raw record, log record, and all that is at this position behind the log, or about it later."""
        spans, log = self._begin(stream, partition, position)
        behind = [(self._hop(record), record) for record in self._at(f"features.{stream}", partition, position)]
        spans += (caused := [self._derived(record, hop, log, position) for hop, record in behind])
        vector = next((span for span in caused if span.name == "vector"), log)
        answers = []
        for family, hop in (("predictions", "prediction"), ("shadow-predictions", "shadow")):
            for ordinal, record in enumerate(self._at(f"{family}.{stream}", partition, position)):
                answer = self._answer(record, f"{hop}.{ordinal}" if ordinal else hop, vector, stream, position)
                answers.append(answer)
                spans.append(answer.span)
        for record in self._about(stream, partition, position, len({answer.model for answer in answers})):
            spans += self._joined(stream, record, vector)
        return spans, answers

    def _begin(self, stream: str, partition: int, position: int) -> tuple[list[Span], Span]:
        """The raw and the log span of a log position."""
        log = self._one(f"log.{stream}", partition, position)
        stamp = _stamp(log)
        key = log.key or b""
        raw = self._raw(stream, key, stamp) if stamp is not None else None
        source = raw.topic.rpartition(".")[2] if raw else ""
        trace = trace_id(stream, source, key.decode("utf-8", "replace"))
        place = (int(stamp["raw_partition"]), int(stamp["raw_offset"])) if stamp is not None else (partition, position)
        facts = {"tidemill.event.id": key.decode("utf-8", "replace"), "tidemill.stream": stream, "tidemill.source": source}
        first = _span(trace, "raw", place, None, raw.at, raw.at, {**facts, **_where(raw)}) if raw else None
        second = _span(trace, "log", place, first, raw.at if raw else log.at, log.at, {**facts, **_where(log)})
        return ([first, second] if first else [second]), second

    def _raw(self, stream: str, key: bytes, stamp: np.void) -> _Record | None:
        """The raw record, if its topic still has it: by its place, and the source by its key."""
        partition, offset = int(stamp["raw_partition"]), int(stamp["raw_offset"])
        for topic in self._topics:
            if topic.startswith(f"raw.{stream}.") and partition < self._topics[topic]:
                message = self._lookup.record(topic, partition, offset)
                if message is not None and message.key() == key:
                    return _record(message)
        return None

    def _derived(self, record: _Record, hop: str, cause: Span, position: int) -> Span:
        stream_time = int(np.frombuffer(record.value, PREFIX, 1)["stream_time"][0])
        facts = {**_where(record), "tidemill.position": position, "tidemill.stream_time": time_text(stream_time)}
        return _span(int(cause.key[0], 16), hop, (record.partition, position), cause, cause.end, record.at, facts)

    def _answer(self, record: _Record, hop: str, vector: Span, stream: str, position: int) -> Answer:
        span, said = self._derived(record, hop, vector, position), wire.decode(record.value, self._registry)
        if not isinstance(said, Prediction):
            raise Rejected("wrong-type", f"{record.topic}[{record.partition}] holds no prediction at {record.offset}")
        facts = {"model": said.model, "version": said.version, "status": said.status, "score": said.score}
        span.attributes.update({f"tidemill.{name}": value for name, value in facts.items() if value is not None})
        return Answer(span, stream, record.partition, position, said.model, said.version)

    def _joined(self, stream: str, record: _Record, vector: Span) -> list[Span]:
        """A trigger's outcome with the way of the event that brought its label."""
        position = _stand(record.value)[1]
        spans, log = self._begin(stream, record.partition, position)
        return [*spans, replace(self._derived(record, self._hop(record), log, position), links=(vector.key,))]

    def _about(self, stream: str, partition: int, position: int, count: int) -> list[_Record]:
        """What became of a trigger at later positions: one record per model."""
        topic, found = f"features.{stream}", []
        for batch in self._lookup.batches(topic, partition, self._seek(topic, partition, position)):
            values = Blobs.of([message.value() for message in batch])
            found += [_record(batch[at]) for at in self._triggered(values, position) if _stand(values[at])[1] != position]
            if len(found) >= max(count, 1):
                break
        return found

    def _triggered(self, values: Blobs, position: int) -> list[int]:
        """Indices of the records whose trigger stands at this position."""
        ids, places = wire.schema_ids(values), []
        for number in np.unique(ids[ids >= 0]).tolist():
            schema = self._registry.schema(number)
            if any(one["name"] == "trigger_position" for one in schema["fields"]):
                mine = np.flatnonzero(ids == number)
                rows = values.chosen(mine).structs(dtype_of(schema))
                places += mine[rows["trigger_position"] == position].tolist()
        return sorted(places)

    def _at(self, topic: str, partition: int, position: int) -> list[_Record]:
        """The records of a derived topic that one log position caused, each number once."""
        found: dict[int, _Record] = {}
        if topic not in self._topics:
            return []
        for batch in self._lookup.batches(topic, partition, self._seek(topic, partition, position)):
            places = [_stand(message.value()) for message in batch]
            found |= {seq: _record(batch[at]) for at, (seq, of) in reversed([*enumerate(places)]) if of == position}
            if places[-1][1] > position:
                break
        return [found[seq] for seq in sorted(found)]

    def _seek(self, topic: str, partition: int, position: int) -> int:
        """An offset before the first record of this or a later log position."""
        low, high = begin, end = self._lookup.bounds(topic, partition)
        while low < high:
            middle = (low + high) // 2
            message = self._lookup.record(topic, partition, middle)
            if message is not None and _stand(message.value())[1] < position:
                low = middle + 1
            else:
                high = middle
        return max(begin, min(low, end) - _BACK)

    def _one(self, topic: str, partition: int, offset: int) -> _Record:
        message = self._lookup.record(topic, partition, offset)
        if message is None:
            raise Rejected("record-gone", f"{topic}[{partition}] has no record {offset} any more")
        return _record(message)

    def _hop(self, record: _Record) -> str:
        schema = self._registry.schema(wire.schema_id(record.value))
        return "control" if schema.get("namespace") == "tidemill.log" else str(schema["name"]).lower()


def _span(trace: int, hop: str, place: tuple[int, int], parent: Span | None, begin: int, end: int, facts: dict[str, Any]) -> Span:
    key = (f"{trace:032x}", f"{span_id(trace, hop, *place):016x}")
    service = _SERVICES.get(str(facts.get("messaging.destination.name", "")).partition(".")[0], "")
    return Span(key, parent.key[1] if parent else None, hop, service, begin, end, facts)


def _where(record: _Record) -> dict[str, Any]:
    return {
        "messaging.destination.name": record.topic,
        "messaging.destination.partition.id": str(record.partition),
        "messaging.kafka.offset": record.offset,
    }


def _record(message: Message) -> _Record:
    return _Record(
        str(message.topic()), int(message.partition() or 0), int(message.offset() or 0), message.key(), message.value() or b"",
        dict(own_headers(message)), message.timestamp()[1] * _MS,
    )  # fmt: skip


def _stamp(record: _Record) -> np.void | None:
    value = record.headers.get(HEADER, b"")
    return np.frombuffer(value, LOG_HEADER)[0] if len(value) == LOG_HEADER.itemsize else None


def _stand(value: bytes | None) -> tuple[int, int]:
    """(sequence number, log position); (-1, -1) for what is none of ours."""
    if value is None or len(value) < PREFIX.itemsize:
        return -1, -1
    row = np.frombuffer(value, PREFIX, 1)[0]
    return int(row["seq"]), int(row["position"])
