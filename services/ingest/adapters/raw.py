"""The raw topics of a stream, read by explicit assignment from where the log ends."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from services.ingest.model import Arrival, Lane
from tidemill.bus import consumer as reading
from tidemill.bus.consumer import grouped
from tidemill.bus.metrics import LAG

if TYPE_CHECKING:
    from tidemill.settings import Settings

logger = logging.getLogger(__name__)

_LOG_APPEND_TIME = 2
_LOOK_AGAIN = 5.0
"""Seconds between looks at how many partitions the topics have."""


class RawTopics:
    """One worker's reader of its stream's raw topics. Not for several threads."""

    def __init__(self, settings: Settings, stream: str, shard: int) -> None:
        """Reads nothing before `assign`."""
        self._stream = stream
        self.consumer = reading.reader(settings, "ingest-raw", f"ingest-{stream}-{shard}")
        self._next: dict[Lane, int] = {}
        self._ends: dict[Lane, int] = {}
        self._paused: set[Lane] = set()
        self._look_at = self._next_turn = 0.0

    def assign(self, sources: Iterable[str], passed: Mapping[Lane, int]) -> list[Lane]:
        """Read every partition of the sources from where the log ends. Returns the lanes.

        Raises Transient; RuntimeError where a raw topic is not the one that the log came from.
        """
        places = {
            Lane(source, number): place
            for source in sources
            for number, place in reading.watermarks(self.consumer, self._topic(source)).items()
        }
        for lane, (low, high) in places.items():
            if passed.get(lane, low) > high:
                raise RuntimeError(_ahead(self._topic(lane.source), lane.partition, passed[lane], high))
            if passed.get(lane, low) < low:
                logger.warning(
                    "raw records were deleted", extra={"topic": self._topic(lane.source), "from": passed[lane], "to": low}
                )
        self._next = {lane: max(low, passed.get(lane, low)) for lane, (low, _) in places.items()}
        self._ends = {lane: high for lane, (_, high) in places.items()}
        self._paused.clear()
        self.consumer.assign([self._place(lane, offset) for lane, offset in self._next.items()])
        return list(places)

    def take(self, limit: int, wait: float, turn: float) -> list[Arrival]:
        """What has come: at most `limit` records, after waiting at most `wait` seconds for the first, and `turn` seconds after what came before."""
        taken = reading.take(self.consumer, limit, wait, self._next_turn)
        messages, now = reading.good(taken), time.time_ns() // 1000
        if messages:
            self._next_turn = time.monotonic() + turn
        arrivals = (
            [self._arrival(topic, partition, part, now) for (topic, partition), part in grouped(messages)] if messages else []
        )
        if len(messages) < len(taken):
            self._pass_ends(taken)
        return arrivals

    def grown(self) -> bool:
        """Whether a topic has got partitions that are not read yet; looked at now and then."""
        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + _LOOK_AGAIN
        try:
            topics = self.consumer.list_topics(timeout=_LOOK_AGAIN).topics
        except KafkaException:
            return False
        counts = Counter(self._topic(lane.source) for lane in self._next)
        return any(name in topics and len(topics[name].partitions) > count for name, count in counts.items())

    def more(self) -> set[Lane]:
        """The lanes of which the broker has more than was taken, as far as is known here."""
        for lane in self._next:
            _, high = self.consumer.get_watermark_offsets(self._place(lane), cached=True)
            self._ends[lane] = max(self._ends[lane], high)
        return {lane for lane, end in self._ends.items() if self._next[lane] < end}

    def lag(self) -> int:
        """Records on the broker that were not taken."""
        behind = {lane: max(0, end - self._next[lane]) for lane, end in self._ends.items()}
        for lane, count in behind.items():
            LAG.labels(self._topic(lane.source), str(lane.partition)).set(count)
        return sum(behind.values())

    def hold(self, full: set[Lane]) -> None:
        """Pause these lanes, and go on with all others."""
        if begin := full - self._paused:
            self.consumer.pause([self._place(lane) for lane in begin])
        if end := self._paused - full:
            self.consumer.resume([self._place(lane) for lane in end])
        self._paused = set(full)

    def close(self) -> None:
        """Leave the broker."""
        self.consumer.close()

    def _arrival(self, topic: str, partition: int, messages: list[Message], now: int) -> Arrival:
        lane = Lane(topic.removeprefix(f"raw.{self._stream}."), partition)
        offsets = np.fromiter(map(Message.offset, messages), np.int64, len(messages))
        self._next[lane] = int(offsets[-1]) + 1
        kind, _ = messages[0].timestamp()
        stamps = [millis for _, millis in map(Message.timestamp, messages)] if kind == _LOG_APPEND_TIME else []
        times = np.array(stamps, np.int64) * 1000 if stamps else np.full(len(messages), now)
        return Arrival(lane, offsets, times, list(map(Message.value, messages)), messages)

    def _pass_ends(self, messages: Iterable[Message]) -> None:
        """At a partition's end nothing before it is left to come, though it takes offsets: the marks of a producer's transactions."""
        for message in messages:
            if (error := message.error()) and error.code() == KafkaError._PARTITION_EOF:
                lane = Lane(str(message.topic()).removeprefix(f"raw.{self._stream}."), message.partition() or 0)
                self._next[lane] = max(self._next.get(lane, 0), message.offset() or 0)

    def _topic(self, source: str) -> str:
        return f"raw.{self._stream}.{source}"

    def _place(self, lane: Lane, offset: int = 0) -> TopicPartition:
        return TopicPartition(self._topic(lane.source), lane.partition, offset)


def _ahead(topic: str, partition: int, passed: int, end: int) -> str:
    return (
        f"the log is ahead of its raw topic: records of {topic}[{partition}] up to {passed - 1} are judged, but that ends at {end}; "
        "restore the raw topic, or give the stream another name"
    )
