"""The order of the log (R8): by known time over all lanes, ties by source, partition, offset.

A lane is never reordered: a row's merge key is its known time, but not less than that of the row before it. What may go next
depends on the mode of the stream:

- live: everything at hand, but nothing past a lane that has more on the broker (or, for `align_wait`, may be about to).
- replay, from the first feed.Progressed until every lane has ended: only what every lane has promised to be past. So the log is
  a function of what was fed, whatever the order of its arrival. At the time of a promise stands its log.Progressed, then a
  switch that was waiting for that time, then rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import numpy as np

from services.ingest.model import ALWAYS, NEVER, Dead, Lane, Level, Promise, RawRows, State, Switch
from services.ingest.step.plan import Plan
from services.ingest.step.queue import Queue

Piece = RawRows | Level | Switch


class Merge:
    """What has arrived and is not yet in the log."""

    def __init__(self, state: State, plan: Plan, lanes: Iterable[Lane]) -> None:
        """Begin where the log ends."""
        self.replaying = state.replaying
        self.promised = state.promised
        self._align = plan.bundle.stream.align_wait
        self._levels: set[int] = set()
        self.queues: dict[Lane, Queue] = {}
        for lane in sorted(lanes, key=lambda lane: (plan.sources[lane.source].index, lane.partition)):
            source = plan.sources[lane.source]
            floor = state.floor.get(lane, NEVER)
            promise = min(floor, state.promised) if state.replaying else NEVER
            rank, ahead = (source.index, lane.partition), source.spec.accept.ahead
            self.queues[lane] = Queue(lane, rank, ahead, floor=floor, peak=floor, promise=promise)

    def arrive(self, lane: Lane, behind: int, rows: RawRows, promises: list[Promise], now: int) -> list[Dead]:
        """Take a lane's next rows and the promises among them; `behind` is the raw offset after them, `now` wall time, us."""
        queue, dead, begin = self.queues[lane], [], 0
        for promise in promises:
            end = int(np.searchsorted(rows.offset, promise.offset))
            queue.add(rows.cut(begin, end))
            dead += self._promise(queue, promise)
            begin = end
        queue.add(rows.cut(begin, len(rows)) if begin else rows)
        queue.end, queue.heard = behind, now
        return dead

    def passed(self) -> dict[Lane, tuple[int, int]]:
        """By lane, where anything has arrived: the raw offset below which all that did is judged, and the floor there."""
        return {lane: queue.passed(self.promised) for lane, queue in self.queues.items() if queue.end}

    def release(self, more: Collection[Lane], switches: list[Switch], now: int) -> Iterator[Piece]:
        """What may go into the log, in order. `more`: the lanes of which the broker has more; `now`: wall time, us."""
        done: list[Piece] = []
        if self.replaying:
            for piece in self._replay(switches):
                done += [piece] if isinstance(piece, Switch) else []
                yield piece
        if not self.replaying:
            yield from self._live(more, [switch for switch in switches if switch not in done], now)

    def _promise(self, queue: Queue, promise: Promise) -> list[Dead]:
        if not self.replaying:
            if promise.until <= self.promised:
                return []  # said before the log's newest one: a restart hears it again
            self._begin_replay()
        if queue.ended or (promise.until <= queue.promise and not promise.ended):
            return []
        dead = queue.close(promise)
        if queue.promise > self.promised:
            self._levels.add(queue.promise)
        return dead

    def _begin_replay(self) -> None:
        self.replaying = True
        for queue in self.queues.values():
            queue.begin_replay()

    def _replay(self, switches: list[Switch]) -> Iterator[Piece]:
        frontier = min((queue.until for queue in self.queues.values()), default=NEVER)
        for mark in _marks(self._levels, switches, frontier):
            yield from self._below(_time(mark))
            if isinstance(mark, Level):
                self._levels.discard(mark.until)
                self.promised = mark.until
            yield mark
        yield from self._below(frontier)
        if frontier == ALWAYS:
            yield Level(self.promised, ended=True)
            self._end_replay()

    def _end_replay(self) -> None:
        self.replaying = False
        for queue in self.queues.values():
            queue.end_replay()

    def _live(self, more: Collection[Lane], switches: list[Switch], now: int) -> Iterator[Piece]:
        bound = min((self._reach(queue) for queue in self.queues.values() if self._waits(queue, more, now)), default=None)
        for switch in sorted(switches, key=_order):
            yield from self._up_to(bound, switch.at)
            yield switch
        yield from self._up_to(bound, ALWAYS)

    def _waits(self, queue: Queue, more: Collection[Lane], now: int) -> bool:
        return queue.lane in more or now - queue.heard < self._align

    def _reach(self, queue: Queue) -> tuple[int, tuple[int, int]]:
        """Where in the merge the lane's next row may stand at the earliest."""
        return queue.peak, queue.rank

    def _below(self, key: int) -> Iterator[RawRows]:
        yield from _merged([part for queue in self.queues.values() for part in queue.pop(key)])

    def _up_to(self, bound: tuple[int, tuple[int, int]] | None, key: int) -> Iterator[RawRows]:
        """Rows below `key` that nothing can still come before."""
        parts = []
        for queue in self.queues.values():
            if bound is None or key <= bound[0]:
                parts += queue.pop(key, inclusive=key == ALWAYS)
            else:
                parts += queue.pop(bound[0], inclusive=queue.rank <= bound[1])
        yield from _merged(parts)


def _marks(levels: set[int], switches: list[Switch], frontier: int) -> list[Level | Switch]:
    """Promises and switches up to the frontier, in their order."""
    due = [Level(until) for until in sorted(levels) if until <= frontier]
    ready = [switch for switch in sorted(switches, key=_order) if switch.at <= frontier]
    return sorted([*due, *ready], key=_time)


def _time(mark: Level | Switch) -> int:
    return mark.until if isinstance(mark, Level) else mark.at


def _order(switch: Switch) -> tuple[int, str, int]:
    return switch.at, switch.event.model, switch.event.rollout


def _merged(parts: list[RawRows]) -> Iterator[RawRows]:
    """Parts that stand in the order of their ties, as one run in the order of the merge."""
    if parts:
        rows = RawRows.joined(parts)
        yield rows if len(parts) == 1 else rows.take(np.argsort(rows.key, kind="stable"))
