"""The raw confluent-kafka pass-through: consume, produce, nothing else. Argument: padding bytes that each output gets."""

from __future__ import annotations

import os
import sys
import uuid

from confluent_kafka import Consumer, Message, Producer


def main(source: str, sink: str, size: int) -> None:
    """Pass records on for ever, each `size` bytes large (0: as it came), with the settings that the services use."""
    bootstrap = os.environ["PIPELINE_BOOTSTRAP"]
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest", "enable.auto.commit": False,
            "check.crcs": True, "fetch.wait.max.ms": 100, "fetch.queue.backoff.ms": 10, "socket.nagle.disable": True,
        }
    )  # fmt: skip
    producer = Producer(
        {
            "bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all", "linger.ms": int(os.environ.get("PIPELINE_LINGER", "0")),
            "queue.buffering.max.messages": 1_000_000, "socket.nagle.disable": True,
        }
    )  # fmt: skip
    consumer.subscribe([source])
    filler = os.urandom(size)
    while True:
        first = consumer.poll(0.1)
        if first is None:
            producer.poll(0)
            continue
        messages = [message for message in [first, *consumer.consume(3_999, 0)] if message.error() is None]
        keys, values = list(map(Message.key, messages)), list(map(Message.value, messages))
        for key, value in zip(keys, values, strict=True):
            while True:
                try:
                    producer.produce(sink, filler if size else value, key, 0)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.poll(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
