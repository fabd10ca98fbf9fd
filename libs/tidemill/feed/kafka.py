"""The replay's raw topics on a real broker."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import KafkaError, Message, Producer

from tidemill.events import feed, wire
from tidemill.events.registry import Registry


class RawTopics:
    """Appends to `raw.<stream>.<source>`; any delivery error ends the replay, since a hole in history would be silent."""

    def __init__(self, producer: Producer, registry: Registry, stream: str, partitions: dict[str, int]) -> None:
        """`partitions` is each source's number of raw partitions."""
        self._producer, self._registry = producer, registry
        self._stream, self._partitions = stream, partitions
        self._failed: KafkaError | None = None

    def send(self, source: str, records: Iterable[tuple[bytes, bytes]]) -> int:
        """Append records in order; the key chooses the partition."""
        topic, count = f"raw.{self._stream}.{source}", 0
        for key, value in records:
            self._produce(topic, value, key)
            count += 1
        self._producer.poll(0)
        return count

    def promise(self, source: str, until: int, ended: bool) -> None:
        """Append `feed.Progressed` to every partition of the source."""
        value = wire.encode(feed.Progressed(source=source, until=until, ended=ended), self._registry)
        for partition in range(self._partitions[source]):
            self._produce(f"raw.{self._stream}.{source}", value, None, partition)

    def flush(self) -> None:
        """Return when the broker has all of it."""
        self._producer.flush()
        if self._failed is not None:
            raise RuntimeError(f"a raw record was not delivered: {self._failed.str()}; start the feed again, it goes on from its last promise")

    def _produce(self, topic: str, value: bytes, key: bytes | None, partition: int = -1) -> None:
        while True:
            try:
                return self._producer.produce(topic, value, key, partition, on_delivery=self._delivered)
            except BufferError:
                self._producer.poll(0.1)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        self._failed = self._failed or error
