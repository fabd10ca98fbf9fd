"""Reading: as a member of a service's group, by explicit place, or all of a topic to its present end."""

from __future__ import annotations

import hashlib
import re
import socket
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tidemill.bus.client import common, logger, trouble
from tidemill.errors import Transient

if TYPE_CHECKING:
    from tidemill.settings import Settings

READ_AT_ONCE: Final = 5_000
PATIENCE: Final = 30.0
"""Seconds to wait for a broker's answer before it counts as away."""
LEAVING: Final = 2.0
"""Seconds for giving partitions back."""
UNREADABLE: Final[Any] = ()
"""The headers of a message of which they cannot be read. The client never gives an empty tuple."""


def member(settings: Settings, service: str, patterns: Sequence[str]) -> Consumer:
    """A member of the service's group: `tidemill-<service>`, or what the settings give as `group.id` before the service's name.

    Static membership: a worker killed and started again goes on at once instead of after the dead one's session. The range
    assignor gives one member the same partition number of every input of a stream. It is to subscribe to `patterns`. Raises Transient where
    the broker is away.

    The broker gives a static member that is back what it had, whatever it now asks for. So one that finds other topics than its former
    life did comes under another name, and waits for the end of the dead one's session.
    """
    place = _short(str(settings.data_dir.resolve()), *_matching(settings, patterns))
    return Consumer(
        {
            **_reading(settings, service),
            "group.instance.id": f"{service}-{socket.gethostname()}-{place}",
            "partition.assignment.strategy": "range",
            "session.timeout.ms": 10_000,
            "heartbeat.interval.ms": 2_000,
            "topic.metadata.refresh.interval.ms": 1_000,  # how soon a new stream is seen
            "enable.auto.offset.store": False,
            **settings.librdkafka,
            "group.id": _group(settings, service),
        }
    )


def _matching(settings: Settings, patterns: Sequence[str]) -> list[str]:
    """The topics that are there now and that a pattern matches."""
    consumer = reader(settings)
    try:
        names = consumer.list_topics(timeout=PATIENCE).topics
    except KafkaException as error:
        raise Transient(f"the broker does not answer: {error}") from error
    finally:
        consumer.close()
    return sorted(name for name in names if any(re.match(pattern, name) for pattern in patterns))


def _group(settings: Settings, name: str) -> str:
    return f"{settings.librdkafka.get('group.id', 'tidemill')}-{name}"


def _short(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def leave(consumer: Consumer) -> None:
    """End a membership before the consumer is closed.

    A static member that only closes is a member still, and nobody else gets its partitions before its session is over.
    """
    until = time.monotonic() + LEAVING
    consumer.unsubscribe()
    while consumer.assignment() and time.monotonic() < until:
        consumer.poll(0.02)  # the group is left once the partitions have been given back


def reader(settings: Settings, name: str = "reader", group: str = "") -> Consumer:
    """A consumer that no group gives partitions to: for `assign`. What it commits are offsets of `group`, which has no members."""
    return Consumer(
        {
            **_reading(settings, name),
            "group.id": f"tidemill-{name}-reader",
            "enable.partition.eof": True,
            **settings.librdkafka,
            **({"group.id": _group(settings, group)} if group else {}),
        }
    )


def browser(settings: Settings, name: str = "browser") -> Consumer:
    """A reader for single records here and there.

    Every request waits behind the fetch that is under way on its connection, so that one may neither wait nor bring much.
    """
    quick = {"fetch.wait.max.ms": "5", "fetch.message.max.bytes": "262144"}
    return reader(settings.model_copy(update={"librdkafka": {**quick, **settings.librdkafka}}), name)


def take(consumer: Consumer, limit: int, wait: float, begin: float = 0.0) -> list[Message]:
    """Up to `limit` messages: what is there now, after waiting at most `wait` seconds for the first.

    What is taken before `begin` (`time.monotonic`) waits until then for more. `consume(n)` alone waits until n have come or the time is over,
    which would cost a trickle its latency.
    """
    first = consumer.poll(wait)
    if first is None:
        return []
    return [first, *consumer.consume(limit - 1, max(0.0, begin - time.monotonic()))]


def grouped(messages: list[Message]) -> Iterator[tuple[tuple[str, int], list[Message]]]:
    """The messages by (topic, partition), each in order."""
    topics: list[Any] = list(map(Message.topic, messages))
    partitions: list[Any] = list(map(Message.partition, messages))
    if len(set(topics)) == len(set(partitions)) == 1:  # most batches; pairs of both would cost twice the time
        yield (topics[0], partitions[0]), messages
        return
    places = list(zip(topics, partitions, strict=True))
    for place in dict.fromkeys(places):
        yield place, [message for message, at in zip(messages, places, strict=True) if at == place]


def read_to_end(settings: Settings, topic: str) -> Iterator[list[Message]]:
    """All of a topic, all partitions, up to its present end, in batches; nothing is committed.

    A partition's messages come in order. Raises Transient where the broker is away or has no such topic.
    """
    consumer = reader(settings)
    try:
        places = {number: place for number, place in watermarks(consumer, topic).items() if place[1] > place[0]}
        consumer.assign([TopicPartition(topic, number, low) for number, (low, _) in places.items()])
        ends = {number: high for number, (_, high) in places.items()}
        while ends:
            taken = take(consumer, READ_AT_ONCE, PATIENCE)
            if not taken:
                raise Transient(f"the broker has been silent for {PATIENCE:.0f} s in the middle of {topic}")
            messages, reached = good(taken), following(taken)
            ends = {number: high for number, high in ends.items() if reached.get(number, 0) < high}
            if messages:
                yield messages
    finally:
        consumer.close()


def watermarks(consumer: Consumer, topic: str, patience: float = PATIENCE) -> dict[int, tuple[int, int]]:
    """The first and the next offset of each partition. Raises Transient as `read_to_end` does."""
    try:
        found = consumer.list_topics(topic, timeout=patience).topics[topic]
        if found.error is not None:
            raise Transient(f"there is no topic {topic} yet: {found.error.str()}")
        return {
            number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=patience) for number in found.partitions
        }
    except KafkaException as error:
        raise Transient(f"the broker does not answer: {error}") from error


def committed(consumer: Consumer, places: list[TopicPartition]) -> list[TopicPartition]:
    """The places with the offsets that the consumer's group has committed, below 0 where none. Raises Transient where the broker is away."""
    try:
        return consumer.committed(places, timeout=PATIENCE)
    except KafkaException as error:
        raise Transient(f"the group's offsets are not there: {error}") from error


def headers_of(messages: Sequence[Message]) -> list[Any]:
    """Each message's headers: pairs of name and value, None where it has none, UNREADABLE where a name is no UTF-8.

    With `own_headers` the only way to ask for headers. The client raises at the first call for such a message, and at the next gives a list with a hole
    in it, which ends the process that touches it; so what is unreadable here is put into the message itself, for every later call.
    """
    found: list[Any] = []
    left = iter(messages)
    while len(found) < len(messages):
        try:
            found.extend(map(Message.headers, left))  # what was read before an error stays
        except SystemError as error:
            if not isinstance(error.__cause__, UnicodeDecodeError):
                raise
            messages[len(found)].set_headers(UNREADABLE)
            found.append(UNREADABLE)
    return found


def own_headers(message: Message) -> Any:
    """`headers_of` one message; none where it has none, or where they cannot be read."""
    [found] = headers_of([message])
    return found or ()


def unreadable(headers: list[Any]) -> list[int]:
    """Which of `headers_of` cannot be read."""
    return [at for at, head in enumerate(headers) if head is UNREADABLE]


def following(messages: list[Message]) -> dict[int, int]:
    """The next offset of each partition, by what came of it in order.

    The end of a partition tells it too: there may be no record at its last offset, since a producer's transaction ends with a marker.
    """
    ended = [message.error() is not None for message in messages]
    places: Any = zip(map(Message.partition, messages), map(Message.offset, messages), ended, strict=True)
    return {partition: offset if end else offset + 1 for partition, offset, end in places if offset is not None}


def good(messages: list[Message]) -> list[Message]:
    """The messages that are records. Ends of partitions and errors that pass by themselves are left out, others raise."""
    if not any(map(Message.error, messages)):
        return messages
    for message in messages:
        if error := message.error():
            _judge(error, message)
    return [message for message in messages if message.error() is None]


_PASSING: Final = frozenset(
    (KafkaError._PARTITION_EOF, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC)
)
"""An end, or a topic that was deleted: the next metadata says so, and the assignment follows."""


def _judge(error: KafkaError, message: Message) -> None:
    if error.code() == KafkaError._AUTO_OFFSET_RESET:
        raise RuntimeError(f"{message.topic()}[{message.partition()}] was cut behind its readers: {error.str()}")
    if error.code() not in _PASSING and not error.retriable():
        raise KafkaException(error)
    if error.code() not in _PASSING:
        logger.warning("kafka", extra={"error": error.str(), "topic": message.topic()})


def _reading(settings: Settings, name: str) -> dict[str, Any]:
    return {
        **common(settings, name),
        "enable.auto.commit": False,
        "auto.offset.reset": "error",  # places are given; where one does not exist, going on would be a silent loss
        "check.crcs": True,
        "fetch.wait.max.ms": 100,
        "fetch.queue.backoff.ms": 10,  # a full queue is looked at again soon; the default of 1 s halves the throughput
        "queued.max.messages.kbytes": 16_384,  # what bounds a reader's memory
        "fetch.message.max.bytes": 2_097_152,
        "receive.message.max.bytes": 67_108_864,
        "error_cb": trouble,
    }
