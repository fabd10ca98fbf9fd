"""The replay's raw topics on a real broker."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from tidemill.bus.producer import Sender
from tidemill.events import feed, wire
from tidemill.events.schema_registry import Registry

_AT_ONCE = 5_000


class RawTopics:
    """Appends to `raw.<stream>.<source>`; a delivery error ends the replay, since a hole in history would be silent."""

    def __init__(self, sender: Sender, registry: Registry, stream: str, partitions: dict[str, int]) -> None:
        """`partitions` is each source's number of raw partitions; an event's key chooses among them."""
        self._sender, self._registry = sender, registry
        self._stream, self._partitions = stream, partitions

    def send(self, source: str, records: Iterable[tuple[bytes, bytes]]) -> int:
        """Append records in order."""
        topic, count, rest = f"raw.{self._stream}.{source}", 0, iter(records)
        while some := list(islice(rest, _AT_ONCE)):
            self._sender.send(
                topic, -1 if self._partitions[source] > 1 else 0, [key for key, _ in some], [value for _, value in some], None
            )
            count += len(some)
        return count

    def promise(self, source: str, until: int, ended: bool) -> None:
        """Append `feed.Progressed` to every partition of the source."""
        value = wire.encode(feed.Progressed(source=source, until=until, ended=ended), self._registry)
        for partition in range(self._partitions[source]):
            self._sender.send(f"raw.{self._stream}.{source}", partition, [None], [value], None)

    def flush(self) -> None:
        """Return when the broker has all of it."""
        while not self._sender.flush(30.0):
            self._sender.check()
