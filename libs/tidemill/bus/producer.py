"""Appending without gaps (R3): all of what was sent before a failure is there, nothing after it, in order, each once per producer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tidemill.bus.client import common, trouble
from tidemill.events.topics import compression_of

if TYPE_CHECKING:
    from tidemill.bus.fold import Headers
    from tidemill.settings import Settings

MAX_BYTES: Final = 10_485_760
"""The largest record that any topic takes (a dead letter that holds the largest raw record)."""
FEW: Final = 500
"""Records in a turn below which the process has time to wait for the broker."""
SOON: Final = 0.02
"""Seconds that it then waits."""

Told = Callable[[Message], None]
"""Is called with a record that the broker has."""


class DeliveryError(RuntimeError):
    """The broker did not take a record: the process must end and start again from what the output holds."""


class Sender:
    """A gapless producer. The first delivery error ends it: every later call raises DeliveryError.

    Records leave in turns: `send` some, `go`, and send no more before `ready`. While a request of theirs is under way the library can
    send no other of the same partition, and it spends a whole core on finding that out again and again as long as any waits.
    """

    def __init__(self, conf: dict[str, Any]) -> None:
        self._failed = ""
        self._since_go = 0
        self.producer: Final = Producer({**conf, "error_cb": trouble})

    def send(
        self,
        topic: str,
        partition: int,
        keys: Sequence[str | bytes | None],
        values: Sequence[bytes],
        headers: Sequence[Headers | None] | None = None,
        told: Mapping[int, Told] | None = None,
    ) -> None:
        """Append records in order. Waits while the producer's bounded queue is full.

        `told` has calls by index that get the record once the broker has it.
        """
        self.check()
        produce, count = self.producer.produce, len(values)
        calls: list[Callable[..., None] | None] = [None] * count
        if count:
            calls[-1] = partial(self._delivered, None)
        for at, hear in (told or {}).items():
            calls[at] = partial(self._delivered, hear)
        for key, value, head, call in zip(keys, values, headers or [None] * count, calls, strict=True):
            try:
                produce(topic, value, key, partition, call, None, 0, head)  # type: ignore[arg-type]
            except BufferError:
                self._send_patiently(topic, value, key, partition, call, None, 0, head)
        self._since_go += count
        self.poll()

    def go(self) -> None:
        """Let all that was sent leave at once, in one request where it fits; few records are waited for, as nothing else is to do."""
        if self._since_go:
            few, self._since_go = self._since_go < FEW, 0
            self.flush(SOON if few else 0.001)

    def ready(self, seconds: float) -> bool:
        """Wait until the broker has acknowledged everything; False when it has not within `seconds`. Unlike `flush` it sends nothing."""
        until = time.monotonic() + seconds
        while len(self.producer) and (left := until - time.monotonic()) > 0:
            self.poll(left)
        return not len(self.producer)

    def poll(self, seconds: float = 0) -> None:
        """Hear of deliveries."""
        self._hear(self.producer.poll, seconds)

    def flush(self, seconds: float = -1) -> bool:
        """Send what waits, and wait until the broker has acknowledged it; False when it has not within `seconds`."""
        return self._hear(self.producer.flush, seconds) == 0

    def check(self) -> None:
        """Raise DeliveryError if a record was not taken."""
        if self._failed:
            raise DeliveryError(f"the broker did not take a record: {self._failed}")

    def _send_patiently(self, *record: Any) -> None:
        while True:
            self.poll(0.05)
            try:
                return self.producer.produce(*record)
            except BufferError:
                continue

    def _hear(self, listen: Callable[[float], int], seconds: float) -> int:
        try:
            left = listen(seconds)
        except (KafkaException, SystemError) as error:  # what is fatal the library raises; the second where reports come with it
            self._failed = self._failed or str(error.__cause__ or error)
            left = -1
        self.check()
        return left

    def _delivered(self, told: Told | None, error: KafkaError | None, message: Message) -> None:
        """Of the last record of a sending, or one that somebody waits for: what befalls another is fatal, and raised by the library."""
        if error is not None:
            self._failed = self._failed or error.str()
        elif told is not None:
            told(message)


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
        "linger.ms": 5,  # for what nobody tells to go; less would have the library spin while a request is under way
        "compression.type": compression_of(topics),
        "compression.level": 1,  # of any codec the quickest
        "message.max.bytes": MAX_BYTES,
        "batch.size": 1_000_000,
        "queue.buffering.max.messages": 200_000,
        "queue.buffering.max.kbytes": 65_536,
        **settings.librdkafka,
    }
