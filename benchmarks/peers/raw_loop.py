"""The raw confluent-kafka pass-through: consume, produce, nothing else, with the settings that the services use.

`PIPELINE_LINGER` is the `linger.ms`, `PIPELINE_WARM` a topic for a first record before anything is timed.

Arguments: source, sink, and optionally a topic that holds what is to be written instead of what was read, record by record: so that
this loop appends the same bytes as a service whose records are larger than those that it reads.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator

from confluent_kafka import Consumer, Message, Producer, TopicPartition

BOOTSTRAP = os.environ["PIPELINE_BOOTSTRAP"]
LINGER = os.environ["PIPELINE_LINGER"]
WARM = os.environ["PIPELINE_WARM"]
AT_ONCE = 4_000


def main(source: str, sink: str, instead: str = "") -> None:
    """Pass records on for ever."""
    producer = Producer(
        {
            "bootstrap.servers": BOOTSTRAP, "enable.idempotence": True, "enable.gapless.guarantee": True, "acks": "all",
            "message.timeout.ms": 0, "linger.ms": LINGER, "compression.type": "lz4",
            "compression.level": 1, "batch.size": 1_000_000, "queue.buffering.max.messages": 200_000,
            "queue.buffering.max.kbytes": 65_536, "socket.nagle.disable": True,
        }
    )  # fmt: skip
    producer.produce(WARM, b"", partition=0)  # until it has an id of the broker, a producer only collects: that is no append's time
    producer.flush()
    others = iter(values_of(instead)) if instead else None
    consumer = reading()
    consumer.subscribe([source])
    while True:
        messages = batch(consumer)
        values = map(Message.value, messages) if others is None else others
        for key, value in zip(map(Message.key, messages), values, strict=False):
            produce(producer, sink, key, value)
        producer.poll(0)


def reading() -> Consumer:
    """A consumer in a group of its own."""
    return Consumer(
        {
            "bootstrap.servers": BOOTSTRAP, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest", "enable.auto.commit": False,
            "enable.partition.eof": True, "check.crcs": True, "fetch.wait.max.ms": 100, "fetch.queue.backoff.ms": 10,
            "fetch.message.max.bytes": 2_097_152, "socket.nagle.disable": True,
        }
    )  # fmt: skip


def batch(consumer: Consumer) -> list[Message]:
    """What is there."""
    first = consumer.poll(0.1)
    return [] if first is None else [one for one in [first, *consumer.consume(AT_ONCE - 1, 0)] if one.error() is None]


def values_of(topic: str) -> Iterator[bytes | None]:
    """All values of a topic of one partition."""
    consumer = reading()
    _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[bytes | None] = []
    while len(found) < end:
        found += map(Message.value, batch(consumer))
    consumer.close()
    return iter(found)


def produce(producer: Producer, sink: str, key: bytes | None, value: bytes | None) -> None:
    """Append one record; waits while the producer is full."""
    while True:
        try:
            return producer.produce(sink, value, key, 0)
        except BufferError:
            producer.poll(0.1)


if __name__ == "__main__":
    main(*sys.argv[1:])
