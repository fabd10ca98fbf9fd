"""The replay: send what the gate allows, promise how far it went, listen, again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from tidemill.events.base import Event
from tidemill.feed.gate import FOREVER, Gate
from tidemill.feed.timeline import Timeline

DAY = 86_400_000_000
STRETCH = 50_000
"""Events of a source after which all sources promise: until then ingest keeps what may still be overtaken, and it keeps no end of them."""


class Raw(Protocol):
    """The stream's raw topics."""

    def send(self, source: str, records: Iterable[tuple[bytes, bytes]]) -> int:
        """Append (key, value) records of one source in order; returns how many."""

    def promise(self, source: str, until: int, ended: bool) -> None:
        """Append `feed.Progressed` to every partition of the source."""

    def flush(self) -> None:
        """Return when the broker has all of it."""


@dataclass
class Sent:
    """How far a replay has come: event time (exclusive) and events sent by source."""

    until: int
    events: dict[str, int] = field(default_factory=dict)


@dataclass
class Replay:
    """One replay of a timeline. `listen` gives the control events since the last call, and waits a moment when told to."""

    timeline: Timeline
    gate: Gate
    raw: Raw
    listen: Callable[[float], Iterable[Event]]
    allowed: Callable[[], int] = lambda: FOREVER
    """The time up to which the wall clock lets events pass (`--speed`); by default it never holds."""
    tell: Callable[[Sent, Gate], None] = lambda sent, gate: None
    stretch: int = STRETCH

    def run(self, begin: int, until: int, hold: bool = True) -> Sent:
        """Send everything known in [`begin`, `until`), then wait for what is still open. With `hold` false nothing is waited for."""
        sent = Sent(max(begin, self.timeline.first))
        goal = min(until, self.timeline.end)
        self._promise(sent.until, ended=False)  # before the first event: from its first promise on, ingest waits for all sources
        while sent.until < goal:
            limit = self._limit(sent.until, min(goal, self.gate.limit if hold else sent.until + DAY))
            if moves := limit > sent.until:
                self._send(sent, limit)
            self._hear(0.0 if moves else 0.02)
            self.tell(sent, self.gate)
        while hold and not self._settled(goal):
            self._hear(0.02)
            self.tell(sent, self.gate)
        return sent

    def _limit(self, begin: int, bound: int) -> int:
        """How far to go now, at most to `bound`. A pace that has come to no event yet stays: each promise is for ever in the log."""
        limit = min(bound, self.allowed(), *(lane.reach(begin, self.stretch) for lane in self.timeline.lanes))
        return limit if limit == bound or any(lane.count(begin) < lane.count(limit) for lane in self.timeline.lanes) else begin

    def _send(self, sent: Sent, limit: int) -> None:
        ended = limit >= self.timeline.end
        for lane in self.timeline.lanes:
            count = self.raw.send(lane.source, lane.records(sent.until, limit))
            sent.events[lane.source] = sent.events.get(lane.source, 0) + count
        self._promise(limit, ended)
        sent.until = limit

    def _promise(self, until: int, ended: bool) -> None:
        for lane in self.timeline.lanes:
            self.raw.promise(lane.source, until, ended)
        self.raw.flush()

    def _hear(self, wait: float) -> None:
        for event in self.listen(wait):
            self.gate = self.gate.hear(event)

    def _settled(self, goal: int) -> bool:
        """Every window that is over is judged, and no cause is open. The end of all sources closes the last window early."""
        whole = goal >= self.timeline.end
        judged = all(
            self.gate.judged_until(model) >= (goal if whole else goal // window * window)
            for model, window in self.gate.windows.items()
        )
        return judged and self.gate.idle
