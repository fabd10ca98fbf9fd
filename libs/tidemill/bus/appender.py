"""Appending columns without gaps (R3): all of what was sent before a failure is there, nothing after it, in order, each once per producer.

aiokafka's producer numbers the batches, has one request under way at a time, and repeats it until the broker has taken it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from tidemill.bus.line import Line, connected, connecting, left
from tidemill.bus.producer import FEW, MAX_BYTES, SOON, DeliveryError
from tidemill.bus.records import bodies, compress, framed
from tidemill.events.blobs import U1, Blobs
from tidemill.events.topics import compression_of

if TYPE_CHECKING:
    from tidemill.settings import Settings

AHEAD: Final = 8_000_000
"""Bytes that may be under way when more is said."""


class _Columns(BatchBuilder):  # type: ignore[misc]  # the library has no types
    """A batch whose records are there already."""

    def __init__(self, body: bytes, count: int, compression: str) -> None:
        self._body, self._count, self._compression = body, count, compression
        self._producer = (-1, -1, -1)
        self._made = b""

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        self._made = self._made or framed(self._body, self._count, self._compression, self._producer)
        return self._made

    def record_count(self) -> int:
        """How many records it has."""
        return self._count

    def size(self) -> int:
        """Bytes."""
        return len(self._body)

    def closed(self) -> bool:
        """It is complete."""
        return True


class Appender:
    """A gapless producer of columns. The first delivery error ends it: every later call raises DeliveryError."""

    def __init__(self, settings: Settings, name: str, topics: Iterable[str] = ()) -> None:
        """`topics` (names or patterns) tell how to compress."""
        self._told = connecting(settings, name)
        self._compression = settings.librdkafka.get("compression.type", compression_of(topics))
        self._line = Line(f"{name}-append")
        self._producer: AIOKafkaProducer | None = None
        self._queues: dict[tuple[str, int], asyncio.Queue[tuple[int, U1]]] = {}
        self._started, self._tasks = asyncio.Event(), list[asyncio.Task[None]]()
        self._news, self._failed, self._under_way, self._few = threading.Condition(), "", 0, 0
        self._line.run(self._go()).add_done_callback(self._ended)

    def send(self, topic: str, partition: int, keys: Blobs, values: Blobs, heads: Blobs) -> None:
        """Append records in order; it does not wait. `heads`: their headers, see `bus.heads`."""
        self.check()
        for count, body in bodies(keys, values, heads):
            with self._news:
                self._under_way += len(body)
            self._few += count
            self._line.tell(partial(self._queue, (topic, partition), (count, body)))

    def go(self) -> None:
        """Wait a little for few records: what comes meanwhile is one batch, of one request and one step."""
        few, self._few = 0 < self._few < FEW, 0
        if few:
            self.flush(SOON)

    def ready(self, seconds: float) -> bool:
        """Wait until there is room for more; False when there is none within `seconds`."""
        return self._wait(AHEAD, seconds)

    def flush(self, seconds: float) -> bool:
        """Wait until the broker has acknowledged everything; False when it has not within `seconds`."""
        return self._wait(0, seconds)

    def check(self) -> None:
        """Raise DeliveryError if a record was not taken."""
        if self._failed:
            raise DeliveryError(f"the broker did not take a record: {self._failed}")

    def _wait(self, least: int, seconds: float) -> bool:
        with self._news:
            done = self._news.wait_for(lambda: self._failed or self._under_way <= least, seconds)
        self.check()
        return bool(done)

    def close(self) -> None:
        """Leave the brokers; what they have not taken is not said."""
        self._line.close(self._leave())

    async def _go(self) -> None:
        self._producer = AIOKafkaProducer(
            **self._told, enable_idempotence=True, acks="all", linger_ms=0, max_request_size=MAX_BYTES, connections_max_idle_ms=None
        )
        await connected(self._producer.start)
        self._started.set()

    def _queue(self, place: tuple[str, int], item: tuple[int, U1]) -> None:
        if place not in self._queues:
            self._queues[place] = asyncio.Queue()
            self._tasks.append(asyncio.ensure_future(self._append(*place, self._queues[place])))
            self._tasks[-1].add_done_callback(self._ended)
        self._queues[place].put_nowait(item)

    async def _append(self, topic: str, partition: int, queue: asyncio.Queue[tuple[int, U1]]) -> None:
        """Send a partition's batches, each when the broker has the one before.

        The broker takes any first number of a producer that is new to a partition: what stands behind a refused batch could come in.
        """
        await self._started.wait()
        assert self._producer is not None
        before: asyncio.Future[Any] | None = None
        while not self._failed:
            count, body = await queue.get()
            columns = _Columns(compress(body.tobytes(), self._compression), count, self._compression)
            if before is not None:
                await asyncio.wait([before])
                if _refused(before):
                    return
            if not self._failed:
                before = await self._producer.send_batch(columns, topic, partition=partition)
                before.add_done_callback(partial(self._heard, len(body)))

    def _heard(self, size: int, done: asyncio.Future[Any]) -> None:
        self._ended(done)
        with self._news:
            self._under_way -= 0 if self._failed else size
            self._news.notify_all()

    def _ended(self, done: Future[Any] | asyncio.Future[Any]) -> None:
        """What is done may have failed."""
        with self._news:
            self._failed = self._failed or _refused(done)
            self._news.notify_all()

    async def _leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._producer is not None:
            await left(self._producer.stop())
            await left(self._producer.client.close())


def _refused(done: Future[Any] | asyncio.Future[Any]) -> str:
    """What befell it; empty where it went well."""
    if done.cancelled():
        return "given up"
    error = done.exception()
    return f"{type(error).__name__} {error}" if error else ""
