"""Control events for clients that are no control service: the command line, sidecars of the data plane, ingest.

    with Publisher(settings, source="cli") as publisher:
        publisher.publish(training.RetrainRequested(...))
    for heard in read_all(settings, [training.RunRequested]): ...
    follower = Follower(settings, [governance.RolloutOrdered], start="begin")
    for heard in follower.poll(0.2): ...

No group, no commits: who follows keeps its own state and reads the topics again after a restart.
"""

from __future__ import annotations

import heapq
import logging
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from confluent_kafka import KafkaError, Message, Producer, TopicPartition

from tidemill.bus.consumer import good, own_headers, read_to_end, reader, take, watermarks
from tidemill.bus.producer import configuration
from tidemill.errors import Rejected, Transient
from tidemill.events import envelope, topics, wire
from tidemill.events.base import Event
from tidemill.events.schema_registry import Registry
from tidemill.telemetry import control_span, facts_of

if TYPE_CHECKING:
    from tidemill.settings import Settings

logger = logging.getLogger(__name__)


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
        over = {"message.timeout.ms": int(timeout * 1000), "linger.ms": 0}
        self._producer = Producer({**configuration(settings, source), **over})

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
        topic = topic_name(type(event), stream)
        with control_span(f"send {topic}", traceparent, facts_of(event, event_id), kind="producer") as span:
            headers = envelope.headers(event_id, self._source, event.ce_type(), time.time_ns() // 1000, span.traceparent, cause)
            self._send(topic, event, headers, partition)
        return event_id

    def close(self) -> None:
        """Wait for what is under way."""
        self._producer.flush(self._timeout)

    def _send(self, topic: str, event: Event, headers: envelope.Headers, partition: int) -> None:
        said: list[KafkaError | None] = []
        self._producer.produce(
            topic,
            value=wire.encode(event, self._registry),
            key=event.kafka_key(),
            headers=list(headers),
            partition=partition,
            on_delivery=lambda error, _: said.append(error),
        )
        self._await(said)

    def _await(self, said: list[KafkaError | None]) -> None:
        until = time.monotonic() + self._timeout + 5
        while not said and time.monotonic() < until:
            self._producer.poll(0.1)
        if not said or said[0] is not None:
            raise Transient(f"the broker did not take the event: {said[0] if said else 'no acknowledgement in time'}")


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
        self._registry, self._kinds = registry or Registry(settings.schema_registry), tuple(kinds)
        self._consumer = reader(settings, "follower")
        self._ends = self._watermarks(sorted({topic_name(kind, stream) for kind in kinds}), timeout)
        begins = {place: low if start == "begin" else high for place, (low, high) in self._ends.items()}
        self._next, self._pending = dict(begins), list[Message]()
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in begins.items()])

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
        self._pending += take(self._consumer, 1000, 0 if self._pending else timeout)
        heard = [found for message in self._pending if (found := self._read(message))]
        self._pending = []  # only now: where the registry was away, the next poll tries them again
        return in_order(heard)

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def _read(self, message: Message) -> Heard | None:
        place, offset = (str(message.topic()), message.partition() or 0), message.offset() or 0
        if not good([message]):
            self._next[place] = max(offset, self._next.get(place, 0))  # the partition's end, past what is no record
            return None
        heard = _decode(message, self._registry, self._kinds)
        self._next[place] = offset + 1
        return heard

    def _watermarks(self, names: list[str], timeout: float) -> dict[tuple[str, int], tuple[int, int]]:
        until = time.monotonic() + timeout
        while True:
            try:
                found = {name: watermarks(self._consumer, name, timeout) for name in names}
                return {(name, number): place for name, places in found.items() for number, place in places.items()}
            except Transient:
                if time.monotonic() > until:
                    raise
            time.sleep(0.1)


def read_all(
    settings: Settings,
    kinds: Sequence[type[Event]],
    registry: Registry | None = None,
    stream: str | None = None,
) -> list[Heard]:
    """All events of these kinds up to the present end, in the order of appending; raises Transient."""
    registry = registry or Registry(settings.schema_registry)
    names = sorted({topic_name(kind, stream) for kind in kinds})
    messages = chain.from_iterable(batch for topic in names for batch in read_to_end(settings, topic))
    heard = (_decode(message, registry, tuple(kinds)) for message in messages)
    return in_order(one for one in heard if one)


def in_order(heard: Iterable[Heard]) -> list[Heard]:
    """By the broker's time, which is in ms, then by the speakers' own; what stands in one partition stays in its order."""
    places: dict[tuple[str, int], list[Heard]] = {}
    for one in heard:
        places.setdefault((one.topic, one.partition), []).append(one)
    return list(heapq.merge(*places.values(), key=lambda one: (one.at, one.envelope.time or 0)))


def _decode(message: Message, registry: Registry, kinds: tuple[type[Event], ...]) -> Heard | None:
    topic, partition, offset = str(message.topic()), message.partition() or 0, message.offset() or 0
    head = own_headers(message)
    try:
        event = wire.decode(message.value() or b"", registry, head)
    except Rejected as error:
        logger.warning("record left out", extra={"topic": topic, "offset": offset, "reason": error.reason})
        return None
    if not isinstance(event, kinds):
        return None
    return Heard(event, envelope.parse(head), topic, partition, offset, message.timestamp()[1] * 1000)


def topic_name(kind: type[Event], stream: str | None = None) -> str:
    """The topic of a fact; `stream` is needed where each stream has its own. Raises ValueError."""
    row = topics.topic_of(kind.full_name())
    if row is None or (row.pattern and stream is None):
        raise ValueError(f"{kind.full_name()} has no topic of its own" if row is None else f"{row.name}: which stream?")
    return row.name.format(stream=stream)
