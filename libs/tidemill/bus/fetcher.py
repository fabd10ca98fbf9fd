"""Reading partitions as columns: what a broker answers goes to a fold without becoming a Python object per record."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aiokafka import errors
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

from tidemill.bus.line import BACKOFF, Line, connected, connecting, left
from tidemill.bus.records import Fetched, following, read

if TYPE_CHECKING:
    from tidemill.settings import Settings

logger = logging.getLogger("tidemill.bus.kafka")

Place = tuple[str, int]
"""A topic and a partition."""
WAIT: Final = 100
"""ms that a broker may keep an answer back while it has nothing."""
AT_ONCE: Final = 1_048_576
"""Bytes of a partition in an answer, where one batch alone is not larger."""
AHEAD: Final = 4 * AT_ONCE
"""Bytes of a partition that are read ahead of the fold: what bounds a reader's memory."""
NOBODY: Final = -1
"""The node that leads a partition without a leader."""
_PASSING: Final = frozenset((2, 3, 5, 6, 9, 78))
"""Codes of errors that pass by themselves (https://kafka.apache.org/protocol#protocol_error_codes): bytes that were damaged on their way, a topic,
leader, replica or offset that is not there yet, or not any more. Others the library calls retriable.
"""


@dataclass(eq=False)
class _Lane:
    """One partition that is read; `position` and what comes in belong to the line's thread, the rest to the fold's."""

    place: Place
    position: int
    chunks: deque[bytes] = field(default_factory=deque)
    waiting: int = 0
    """Bytes of `chunks`."""
    end: int = 0
    """The offset after the newest record that the broker has."""
    taken: int = 0
    """The next offset for the fold."""
    rest: Fetched | None = None
    paused: bool = False


class Fetcher:
    """Reads the partitions that it is told to, from the offsets that it is told."""

    def __init__(self, settings: Settings, name: str, gather: int = 0) -> None:
        """`gather`: ms that the broker may keep records back so that more come at once."""
        self._told = connecting(settings, name)
        self._wait, self._least = (gather, 65_536) if gather else (WAIT, 1)
        self._line = Line(f"{name}-fetch")
        self._lanes: dict[Place, _Lane] = {}
        self._news, self._failed = threading.Condition(), list[BaseException]()
        self._changed = asyncio.Event()
        self._client: AIOKafkaClient | None = None
        self._line.run(self._go())

    def assign(self, places: Mapping[Place, int]) -> None:
        """Read these too, from these offsets on."""
        lanes = {place: _Lane(place, offset, taken=offset) for place, offset in places.items()}
        with self._news:
            self._lanes |= lanes
        self._wake()

    def drop(self, places: Iterable[Place]) -> None:
        """Read these no more; what has come of them is forgotten."""
        with self._news:
            for place in places:
                self._lanes.pop(place, None)

    def pause(self, places: Iterable[Place], paused: bool = True) -> None:
        """Give nothing of these, or go on with them where they stood; those that are not read here stay so."""
        for lane in [self._lanes[place] for place in places if place in self._lanes]:
            lane.paused = paused
        self._wake()

    def reached(self, place: Place) -> int:
        """The offset before which there is nothing more to take."""
        with self._news:
            lane = self._lanes[place]
            return lane.taken if lane.rest is not None or lane.chunks else lane.position

    def lag(self, place: Place) -> int:
        """How far the newest record, as the newest answer told, is from what was taken; 0 of what is not read here."""
        return max(0, self._lanes[place].end - self.reached(place)) if place in self._lanes else 0

    def take(self, limit: int, seconds: float) -> list[tuple[Place, Fetched]]:
        """What is there, at most `limit` records of each partition, after waiting so long for the first.

        Raises what stops the reading: RuntimeError where a topic was cut behind its reader, Damaged, aiokafka's KafkaError.
        """
        with self._news:
            self._news.wait_for(lambda: self._failed or any(map(_ready, self._lanes.values())), seconds)
            if self._failed:
                raise self._failed[0]
            ready = [lane for lane in self._lanes.values() if _ready(lane)]
        found = [(lane.place, self._some(lane, limit)) for lane in ready]
        return [(place, records) for place, records in found if records is not None]

    def close(self) -> None:
        """Leave the brokers."""
        self._line.close(self._leave())

    def _some(self, lane: _Lane, limit: int) -> Fetched | None:
        if lane.rest is None:
            lane.rest = read(self._answers(lane), lane.taken)
        records, lane.rest = lane.rest, None
        if records is None:
            return None
        if len(records) > limit:
            some = -(-len(records) // -(-len(records) // limit))  # in parts of one size: a small one costs a step too
            records, lane.rest = records.part(slice(0, some)), records.part(slice(some, None))
        lane.taken = int(records.offsets[-1]) + 1
        return records

    def _answers(self, lane: _Lane) -> bytes:
        """What brokers answered since, up to about AT_ONCE: many small answers are one batch."""
        taken, size = list[bytes](), 0
        with self._news:
            while lane.chunks and (not taken or size + len(lane.chunks[0]) <= AT_ONCE):
                taken.append(lane.chunks.popleft())
                size += len(taken[-1])
            held_up, lane.waiting = lane.waiting >= AHEAD, lane.waiting - size
        if held_up:
            self._wake()
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def _wake(self) -> None:
        self._line.tell(self._changed.set)

    async def _go(self) -> None:
        try:
            self._client = AIOKafkaClient(**self._told)
            await connected(self._client.bootstrap)
            await self._fetch(self._client)
        except Exception as error:
            with self._news:
                self._failed.append(error)
                self._news.notify_all()

    async def _fetch(self, client: AIOKafkaClient) -> None:
        """One request at a time to each node that leads a partition which has room."""
        under_way: dict[int, asyncio.Task[None]] = {}
        while True:
            self._changed.clear()
            wanted = self._wanted(client)
            leaderless = wanted.pop(NOBODY, None)
            for node in wanted.keys() - under_way.keys():
                under_way[node] = asyncio.ensure_future(self._ask(client, node, wanted[node]))
            await self._news_of(list(under_way.values()), BACKOFF / 1000 if leaderless else None)
            for node in [node for node, task in under_way.items() if task.done()]:
                under_way.pop(node).result()
            if leaderless:
                await client.force_metadata_update()

    async def _news_of(self, tasks: list[asyncio.Task[None]], seconds: float | None) -> None:
        """Wait until something has changed or one of the tasks is done."""
        changed = asyncio.ensure_future(self._changed.wait())
        await asyncio.wait({changed, *tasks}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()

    def _wanted(self, client: AIOKafkaClient) -> dict[int, list[_Lane]]:
        """The lanes that have room, by their leader's node."""
        with self._news:
            lanes = [lane for lane in self._lanes.values() if not lane.paused and lane.waiting < AHEAD]
            topics = {place[0] for place in self._lanes}
        if topics:
            client.set_topics(topics)
        found = defaultdict(list)
        for lane in lanes:
            leader = client.cluster.leader_for_partition(TopicPartition(*lane.place))
            found[NOBODY if leader is None else leader].append(lane)
        return found

    async def _ask(self, client: AIOKafkaClient, node: int, lanes: list[_Lane]) -> None:
        topics, asked = defaultdict(list), {lane.place: (lane, lane.position) for lane in lanes}
        for (topic, number), (_, position) in asked.items():
            topics[topic].append((number, position, AT_ONCE))
        request = FetchRequest(self._wait, self._least, 50 * AT_ONCE, 0, list(topics.items()))
        try:
            answer = await client.send(node, request)
        except errors.KafkaError as error:
            logger.info("kafka", extra={"error": str(error)})
            await asyncio.sleep(BACKOFF / 1000)
            await client.force_metadata_update()
            return
        passing = [
            self._came(*asked[topic, number], code, end, rest[-1] or b"")
            for topic, partitions in answer.topics
            for number, code, end, *rest in partitions
        ]
        if any(passing):
            await asyncio.sleep(BACKOFF / 1000)
            await client.force_metadata_update()

    def _came(self, lane: _Lane, asked: int, code: int, end: int, data: bytes) -> bool:
        """Take an answer's part, of a lane that was asked for from an offset on; whether it is an error that passes by itself."""
        if self._lanes.get(lane.place) is not lane or lane.position != asked:  # dropped, or another leader has answered
            return False
        kind = errors.for_code(code)
        if code in _PASSING or (code and kind.retriable):
            return True
        if kind is errors.OffsetOutOfRangeError:
            raise RuntimeError(f"{lane.place[0]}[{lane.place[1]}] was cut behind its readers: offset {lane.position} is not there")
        if code:
            raise kind(f"{lane.place[0]}[{lane.place[1]}]")
        position, size = following(data, lane.position)
        with self._news:
            lane.end = end
            if position > lane.position:
                lane.position = position
                lane.chunks.append(data[:size])
                lane.waiting += size
                self._news.notify_all()
        return False

    async def _leave(self) -> None:
        if self._client is not None:
            await left(self._client.close())


def _ready(lane: _Lane) -> bool:
    return not lane.paused and (lane.rest is not None or bool(lane.chunks))
