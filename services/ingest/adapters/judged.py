"""How far a shard has judged its raw topics, kept by the broker: of dead records and repeats the log itself says nothing.

The places are offsets of a group of the shard's own. Beside each stands the place in the log that it was kept at, so that nobody
trusts it whose log is another: one that was cut, or one whose readers leave out what the keeper wrote, since it had a successor.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from services.ingest.adapters.log import LogReader
from services.ingest.model import NEVER, Lane, State
from tidemill.bus import consumer as reading
from tidemill.bus.limit import DeadShare
from tidemill.bus.snapshot import InputMark

logger = logging.getLogger(__name__)

EVERY: Final = 0.1
"""Seconds between two times that the places are kept: what was judged meanwhile, a killed process judges again."""
AGAIN: Final = 5.0
"""Seconds after which they are kept though nothing has moved: one request may have failed, and brokers forget what is old."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What stands beside an offset."""

    log: InputMark
    """Where the shard's log was; all that had been said by then was acknowledged."""
    read: int
    dead: int
    """`DeadShare.seen`."""
    floor: int
    """`State.floor` of the lane."""


class Judged:
    """The places of one shard. Not for several threads."""

    def __init__(self, consumer: Consumer, stream: str, share: float) -> None:
        """`consumer` is of the shard's own group; a larger `share` of dead records stops the service."""
        self._consumer, self._prefix = consumer, f"raw.{stream}."
        self._dead = DeadShare(share)
        self._noted: list[TopicPartition] = []
        self._passed: dict[Lane, int] = {}
        self._noted_at = 0.0

    def restore(self, state: State, reader: LogReader, sources: Sequence[str]) -> None:
        """Follow the log to where the places were kept, and take them if they were kept of this log. Raises Transient."""
        found = [(place, kept) for place in self._committed(sources) if (kept := _read(place.metadata))]
        newest = max((kept for _, kept in found), key=attrgetter("log.offset"), default=None)
        if newest is None or newest.log.offset < state.offset or not reader.stands_in(newest.log):
            return  # what a snapshot has is newer, or nothing is
        reader.follow(state, newest.log.offset)
        if (state.seq + 1, state.writer) != (newest.log.seq, newest.log.writer):
            return
        for place, kept in found:
            lane = Lane(place.topic.removeprefix(self._prefix), place.partition)
            if kept.log == newest.log and place.offset >= state.passed.get(lane, 0):
                state.passed[lane], state.floor[lane] = place.offset, kept.floor
        self._dead.resume(newest.read, newest.dead)

    def count(self, read: int, dead: int) -> None:
        """`dead` of the next `read` records could not be taken; raises TooManyDead."""
        self._dead.count(read, dead)

    def note(self, state: State, newest: str) -> None:
        """Take the places down, now and then; `newest` is the fingerprint of the log's last record."""
        age = time.monotonic() - self._noted_at
        if age >= AGAIN or (age >= EVERY and state.passed != self._passed):
            self._noted = self._places(state, newest)
            self._passed, self._noted_at = dict(state.passed), time.monotonic()

    def keep(self) -> None:
        """Let the broker keep what was noted last; it is to have acknowledged all that had been said by then."""
        if self._noted:
            self._commit(self._noted, wait=False)
            self._noted = []

    def rest(self, state: State, newest: str) -> None:
        """Have the broker keep where the shard ends; it is to have acknowledged all that was said."""
        if places := self._places(state, newest):
            self._commit(places, wait=True)

    def _places(self, state: State, newest: str) -> list[TopicPartition]:
        mark = InputMark(state.offset, state.seq + 1, state.writer, newest)
        kept = {lane: Kept(mark, *self._dead.seen, state.floor.get(lane, NEVER)) for lane in state.passed}
        return [
            TopicPartition(self._prefix + lane.source, lane.partition, state.passed[lane], json.dumps(asdict(beside)))
            for lane, beside in kept.items()
        ]

    def _commit(self, places: list[TopicPartition], wait: bool) -> None:
        try:
            if wait:
                self._consumer.commit(offsets=places, asynchronous=False)
            else:
                self._consumer.commit(offsets=places, asynchronous=True)
        except KafkaException as error:  # an older place only means judging again
            logger.warning("places not kept", extra={"topics": self._prefix, "error": str(error)})

    def _committed(self, sources: Sequence[str]) -> list[TopicPartition]:
        topics = [self._prefix + source for source in sources]
        places = [TopicPartition(topic, number) for topic in topics for number in reading.watermarks(self._consumer, topic)]
        return reading.committed(self._consumer, places)


def _read(metadata: str | None) -> Kept | None:
    """None where there is none, or where another tool has set the offset."""
    try:
        said = json.loads(metadata or "")
        return Kept(InputMark(**said["log"]), said["read"], said["dead"], said["floor"])
    except (ValueError, TypeError, KeyError):
        return None
