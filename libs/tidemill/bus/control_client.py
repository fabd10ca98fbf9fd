"""Control events for clients that are no control service: the command line, sidecars of the data plane, ingest.

    with Publisher(settings, source="cli") as publisher:
        publisher.publish(training.RetrainRequested(...))
    for heard in read_all(settings, [training.RunRequested]): ...
    follower = Follower(settings, [governance.RolloutOrdered], start="begin")
    for heard in follower.poll(0.2): ...

No group, no commits: who follows keeps its own state and reads the topics again after a restart.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from tidemill.errors import Rejected, Transient
from tidemill.events import envelope, topics, wire
from tidemill.events.base import Event
from tidemill.events.registry import Registry

if TYPE_CHECKING:
    from tidemill.settings import Settings

log = logging.getLogger(__name__)

_MAX_BYTES = 10_485_760  # a spec bundle or a dead letter may be larger than librdkafka's own limit of 1 MB


@dataclass(frozen=True, slots=True)
class Heard:
    """One control event as it was read, with its envelope and its place."""

    event: Event
    envelope: envelope.Envelope
    topic: str
    partition: int
    offset: int
    at: int
    """When the broker appended it, us."""


class Publisher:
    """Says control events, each acknowledged by the broker before `publish` returns. Safe for threads."""

    def __init__(self, settings: Settings, source: str, registry: Registry | None = None, timeout: float = 30.0) -> None:
        """`source` is the speaker's name (`cli`, `ingest`); `timeout` (seconds) bounds the wait for an acknowledgement."""
        self._registry = registry or Registry(settings.schema_registry)
        self._source, self._timeout = source, timeout
        self._producer = Producer(
            {
                "bootstrap.servers": settings.kafka,
                "enable.idempotence": True,
                "acks": "all",
                "message.max.bytes": _MAX_BYTES,
                "delivery.timeout.ms": int(timeout * 1000),
                "linger.ms": 0,
                **settings.librdkafka,
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def publish(
        self,
        event: Event,
        event_id: str | None = None,
        *,
        cause: str | None = None,
        traceparent: str | None = None,
        stream: str | None = None,
        partition: int = -1,
    ) -> str:
        """Say one event and return its id (a fresh one where none is given: then saying it again is another event).

        `cause` is the id of the event that led to it. `stream` names the topic of a fact that each stream has its own topic for.
        Without a `partition` the key chooses it.
        Raises Transient where the broker or the registry is away, or did not acknowledge in time.
        """
        event_id = event_id or str(uuid.uuid4())
        headers = envelope.headers(event_id, self._source, event.ce_type(), time.time_ns() // 1000, traceparent, cause)
        said: list[KafkaError | None] = []
        self._producer.produce(
            topic_name(type(event), stream),
            value=wire.encode(event, self._registry),
            key=event.kafka_key(),
            headers=list(headers),
            partition=partition,
            on_delivery=lambda error, _: said.append(error),
        )
        self._await(said)
        return event_id

    def close(self) -> None:
        """Wait for what is under way."""
        self._producer.flush(self._timeout)

    def _await(self, said: list[KafkaError | None]) -> None:
        until = time.monotonic() + self._timeout + 5
        while not said and time.monotonic() < until:
            self._producer.poll(0.1)
        if not said or said[0] is not None:
            raise Transient(f"the broker did not take the event: {said[0] if said else 'no acknowledgement in time'}")


def publish(event: Event, settings: Settings, source: str = "cli", event_id: str | None = None, cause: str | None = None) -> str:
    """Say one event with a client of its own; see Publisher.publish."""
    with Publisher(settings, source) as publisher:
        return publisher.publish(event, event_id, cause=cause)


class Follower:
    """Reads control topics from their begin, or from now on. One thread at a time."""

    def __init__(
        self,
        settings: Settings,
        kinds: Sequence[type[Event]],
        start: Literal["begin", "now"] = "begin",
        registry: Registry | None = None,
        stream: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        """`kinds` are the facts to hear; `stream` is needed for those with a topic per stream (progress).

        Raises Transient where a topic does not exist or the broker is away for `timeout` seconds.
        """
        self._registry = registry or Registry(settings.schema_registry)
        self._kinds = tuple(kinds)
        self._consumer = Consumer(_reader(settings))
        self._ends = self._watermarks(sorted({topic_name(kind, stream) for kind in kinds}), timeout)
        begins = {place: low if start == "begin" else high for place, (low, high) in self._ends.items()}
        self._next = dict(begins)
        self._pending: list[Message] = []
        self._consumer.assign([TopicPartition(topic, partition, offset) for (topic, partition), offset in begins.items()])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def caught_up(self) -> bool:
        """Whether all that was there when the follower was made has been read."""
        return all(self._next[place] >= high for place, (_, high) in self._ends.items())

    def poll(self, timeout: float = 1.0) -> list[Heard]:
        """What has come, within `timeout` seconds; in the order of appending. What cannot be read is left out, with a warning.

        Raises Transient where the registry is away; nothing is lost by it.
        """
        self._pending += self._consumer.consume(1, 0 if self._pending else timeout)
        self._pending += self._consumer.consume(1000, 0) if self._pending else []
        heard = [found for message in self._pending if (found := self._read(message))]
        self._pending = []  # only now: where the registry was away, the next poll tries them again
        return sorted(heard, key=lambda one: one.at)  # stable: offsets of one topic stay in order

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def _read(self, message: Message) -> Heard | None:
        topic, partition, offset = _place(message)
        if error := message.error():
            if error.code() == KafkaError._PARTITION_EOF:
                self._next[topic, partition] = offset
            elif error.fatal():
                raise KafkaException(error)
            return None
        heard = self._decode(message, topic, partition, offset)
        self._next[topic, partition] = offset + 1
        return heard

    def _decode(self, message: Message, topic: str, partition: int, offset: int) -> Heard | None:
        try:
            event = wire.decode(message.value() or b"", self._registry)
        except Rejected as error:
            log.warning("record left out", extra={"topic": topic, "offset": offset, "reason": error.reason})
            return None
        if not isinstance(event, self._kinds):
            return None
        headers = envelope.parse(cast(envelope.Headers, message.headers()))
        return Heard(event, headers, topic, partition, offset, message.timestamp()[1] * 1000)

    def _watermarks(self, names: list[str], timeout: float) -> dict[tuple[str, int], tuple[int, int]]:
        until, missing = time.monotonic() + timeout, names
        while missing:
            try:
                known = self._consumer.list_topics(timeout=timeout).topics
                missing = [name for name in names if name not in known or known[name].error]
                if not missing:
                    places = [(name, number) for name in names for number in known[name].partitions]
                    return {place: self._consumer.get_watermark_offsets(TopicPartition(*place), timeout) for place in places}
            except KafkaException as error:
                if time.monotonic() > until:
                    raise Transient(f"the broker does not answer: {error}") from error
            if time.monotonic() > until:
                raise Transient(f"there are no topics {', '.join(missing)}: start the stack, or apply the stream's spec")
            time.sleep(0.1)
        return {}


def read_all(
    settings: Settings,
    kinds: Sequence[type[Event]],
    registry: Registry | None = None,
    stream: str | None = None,
    timeout: float = 30.0,
) -> Iterator[Heard]:
    """All events of these kinds up to the present end, in the order of appending."""
    heard: list[Heard] = []
    with Follower(settings, kinds, "begin", registry, stream, timeout) as follower:
        while not follower.caught_up:
            heard += follower.poll(1.0)
    yield from sorted(heard, key=lambda one: one.at)


def topic_name(kind: type[Event], stream: str | None = None) -> str:
    """The topic of a fact; `stream` is needed where each stream has its own. Raises ValueError."""
    row = topics.topic_of(kind.full_name())
    if row is None or (row.pattern and stream is None):
        raise ValueError(f"{kind.full_name()} has no topic of its own" if row is None else f"{row.name}: which stream?")
    return row.name.format(stream=stream)


def _reader(settings: Settings) -> dict[str, object]:
    return {
        "bootstrap.servers": settings.kafka,
        "group.id": f"tidemill-follower-{uuid.uuid4()}",  # librdkafka wants one; nothing is ever committed
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "check.crcs": True,
        "fetch.wait.max.ms": 50,
        **settings.librdkafka,
    }


def _place(message: Message) -> tuple[str, int, int]:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    return str(topic), int(partition or 0), int(offset or 0)
