"""Appending without gaps (R3): all of what was sent before a failure is there, nothing after it, in order, each once per producer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, Message, Producer

from tidemill.bus.client import common, trouble
from tidemill.events.topics import compression_of

if TYPE_CHECKING:
    from tidemill.bus.fold import Headers
    from tidemill.settings import Settings

MAX_BYTES: Final = 10_485_760
"""The largest record that any topic takes (a dead letter that holds the largest raw record)."""


class DeliveryError(RuntimeError):
    """The broker did not take a record: the process must end and start again from what the output holds."""


class Sender:
    """A gapless producer. The first delivery error ends it: every later call raises DeliveryError."""

    def __init__(self, conf: dict[str, Any]) -> None:
        self._failed: KafkaError | None = None
        self.producer: Final = Producer({**conf, "on_delivery": self._undelivered, "error_cb": self._trouble})

    def send(
        self,
        topic: str,
        partition: int,
        keys: Sequence[bytes | None],
        values: Sequence[bytes],
        headers: Sequence[Headers | None] | None = None,
    ) -> None:
        """Append records in order. Waits while the producer's bounded queue is full."""
        produce = self.producer.produce
        for at, (key, value) in enumerate(zip(keys, values, strict=True)):
            try:
                if headers is None or (head := headers[at]) is None:
                    produce(topic, value, key, partition)
                else:
                    produce(topic, value, key, partition, headers=head)  # type: ignore[arg-type]
            except BufferError:
                self._send_patiently(topic, partition, key, value, headers[at] if headers else None)
        self.poll()

    def poll(self, seconds: float = 0) -> None:
        """Let delivery errors be told."""
        self.producer.poll(seconds)
        self.check()

    def flush(self, seconds: float = -1) -> bool:
        """Wait until the broker has acknowledged everything; False when it has not within `seconds`."""
        left = self.producer.flush(seconds)
        self.check()
        return left == 0

    def check(self) -> None:
        """Raise DeliveryError if a record was not taken."""
        if self._failed is not None:
            raise DeliveryError(f"the broker did not take a record: {self._failed.str()}")

    def _send_patiently(self, topic: str, partition: int, key: bytes | None, value: bytes, headers: Headers | None) -> None:
        while True:
            self.poll(0.05)
            try:
                return self.producer.produce(topic, value, key, partition, headers=headers or None)  # type: ignore[arg-type]
            except BufferError:
                continue

    def _undelivered(self, error: KafkaError | None, _: Message) -> None:
        self._failed = self._failed or error

    def _trouble(self, error: KafkaError) -> None:
        trouble(error)
        if error.fatal():
            self._failed = self._failed or error


def gapless(settings: Settings, name: str, topics: Iterable[str] = ()) -> Sender:
    """The sender of a service called `name`; see `configuration`."""
    return Sender(configuration(settings, name, topics))


def configuration(settings: Settings, name: str, topics: Iterable[str] = ()) -> dict[str, Any]:
    """What librdkafka is told for a gapless producer; the settings' own table comes last.

    It compresses as `topics` (names or patterns) ask; for others that ask the broker does it.
    """
    return {
        **common(settings, name),
        "enable.idempotence": True,
        "acks": "all",
        "message.timeout.ms": 0,  # never give a record up: a hole would be silent
        "enable.gapless.guarantee": True,
        "delivery.report.only.error": True,
        "linger.ms": 0,  # what waits is sent together anyway while a request is under way
        "compression.type": compression_of(topics),
        "compression.level": 1,  # of any codec the quickest
        "message.max.bytes": MAX_BYTES,
        "batch.size": 1_000_000,
        "queue.buffering.max.messages": 200_000,
        "queue.buffering.max.kbytes": 65_536,
        **settings.librdkafka,
    }
