"""The log: appending to it without gaps (R3), and reading its own end at a start (R5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Final

from confluent_kafka import Message

from services.ingest.model import State
from services.ingest.step import Records, restore
from tidemill.bus import consumer as reading
from tidemill.bus.fetcher import Fetcher
from tidemill.bus.fold import Batch, Headers, Input
from tidemill.bus.intake import Place, intake
from tidemill.bus.producer import gapless
from tidemill.bus.records import Fetched
from tidemill.bus.snapshot import InputMark, fingerprint
from tidemill.bus.tail import Lookup
from tidemill.errors import Transient
from tidemill.events import topics, wire
from tidemill.events.deadletters import DeadLetter
from tidemill.events.log_header import HEADER, LOG_HEADER
from tidemill.events.schema_registry import Registry
from tidemill.trust.keys import KeyRing

if TYPE_CHECKING:
    from tidemill.settings import Settings

LOG: Final = Input("log", log=True)
LONG: Final = 1.0
"""Seconds for an acknowledgement after which to say that it is waited for."""

Told = Callable[[int], None]
"""Is called with a record's offset when the broker has it."""


class LogWriter:
    """Appends to one shard's log, and dead letters to their topic. Not for several threads.

    A delivery error is final: the log of what was sent before it is whole, and a new writer goes on from there.
    """

    def __init__(self, settings: Settings, stream: str, shard: int, registry: Registry) -> None:
        self.topic, self.shard, self._registry = f"log.{stream}", shard, registry
        self.newest = ""
        """Fingerprint of the newest record that was sent."""
        self.acked = -1
        """The newest offset known to be in the log."""
        self.shifted = False
        """Whether a record stands elsewhere than expected: a dead writer's late batch lies before it."""
        self._sender = gapless(settings, "ingest")

    def append(self, records: Records, place: int, traces: dict[int, str], told: dict[int, Told]) -> None:
        """Send records whose first is expected at offset `place`; `traces` and `told` are by index. Waits while the queue is full."""
        width, stamps, count = LOG_HEADER.itemsize, records.headers.tobytes(), len(records.values)
        headers: list[Headers] = [[(HEADER, stamps[at : at + width])] for at in range(0, count * width, width)]
        for i, traceparent in traces.items():
            headers[i].append(("traceparent", traceparent.encode()))
        heard = {i: partial(self._heard, place + i, told.get(i)) for i in {count - 1, *told}}
        self._sender.send(self.topic, self.shard, records.keys, records.values, headers, heard)
        key = records.keys[-1]
        self.newest = fingerprint(None if key is None else key.encode(), records.values[-1])

    def bury(self, letters: Sequence[tuple[DeadLetter, Headers]]) -> None:
        """Send dead letters and wait for the broker to have them: the log may not move past them before. Raises Transient."""
        values = [wire.encode(letter, self._registry) for letter, _ in letters]
        for value, (letter, headers) in zip(values, letters, strict=True):
            self._sender.send(topics.DEAD_LETTERS, 0, [letter.kafka_key()], [value], [headers])
        self.flush()

    def go(self) -> None:
        """Let what was appended leave."""
        self._sender.go()

    def ready(self) -> None:
        """Return once the broker has all that was appended. Raises Transient when that takes long, DeliveryError."""
        if not self._sender.ready(LONG):
            raise Transient(f"the broker has not acknowledged the newest records of {self.topic} for {LONG:.0f} s")

    def poll(self) -> None:
        """Hear of deliveries; raises DeliveryError."""
        self._sender.poll()

    def flush(self, seconds: float = -1) -> bool:
        """Wait until the broker has everything; False when it has not within `seconds`."""
        return self._sender.flush(seconds)

    def purge(self) -> None:
        """Drop what was not sent: the shard is another's."""
        self._sender.producer.purge()
        self._sender.producer.flush(1)

    def _heard(self, expected: int, told: Told | None, message: Message) -> None:
        self.acked = int(message.offset() or 0)
        self.shifted |= self.acked != expected
        if told is not None:
            told(self.acked)


class LogReader:
    """Reads one shard's log into a writer's state."""

    def __init__(self, settings: Settings, stream: str, shard: int) -> None:
        self.topic, self._shard, self._settings = f"log.{stream}", shard, settings
        self._consumer = reading.reader(settings, "ingest-log")
        self._lookup = Lookup(self._consumer)
        self._ring = KeyRing.load(settings.trust_dir)

    @property
    def end(self) -> int:
        """The offset behind the newest record. Raises Transient."""
        return self._lookup.bounds(self.topic, self._shard)[1]

    @property
    def shards(self) -> int:
        """How many shards the log has."""
        return len(reading.watermarks(self._consumer, self.topic))

    def stands_in(self, mark: InputMark) -> bool:
        """Whether the log is the one that a snapshot was made of. Raises Transient."""
        low, high = self._lookup.bounds(self.topic, self._shard)
        if not low <= mark.offset <= high:
            return False
        message = self._lookup.record(self.topic, self._shard, mark.offset - 1)
        return message is None or fingerprint(message.key(), message.value()) == mark.newest

    def follow(self, state: State, end: int) -> None:
        """Take the valid records up to offset `end` into the state. Raises Transient."""
        place = Place(state.offset, state.seq + 1, state.writer)
        for batch in self._batches(place, end):
            assert batch.log is not None
            restore(state, batch.log, batch.offsets, batch.keys, batch.values, self._ring)
        state.offset = max(state.offset, end)

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def _batches(self, place: Place, end: int) -> Iterator[Batch]:
        if place.offset >= end:
            return
        at = self.topic, self._shard
        with closing(Fetcher(self._settings, "ingest-log")) as fetcher:
            fetcher.assign({at: place.offset})
            while fetcher.reached(at) < end:
                for records in self._taken(fetcher, end):
                    batch, place = intake(LOG, self.topic, self._shard, records, place)
                    if batch is not None:
                        yield batch

    def _taken(self, fetcher: Fetcher, end: int) -> Iterator[Fetched]:
        """What came, up to `end`."""
        at = self.topic, self._shard
        before = fetcher.reached(at)
        taken = fetcher.take(reading.READ_AT_ONCE, reading.PATIENCE)
        if fetcher.reached(at) == before:  # the end of a producer's transaction is no record
            raise Transient(f"the broker has been silent for {reading.PATIENCE:.0f} s in the middle of {self.topic}")
        for _, records in taken:
            if len(wanted := records.part(records.offsets < end)):
                yield wanted
