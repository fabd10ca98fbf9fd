"""One lane's rows on their way into the merge."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from services.ingest import errors
from services.ingest.model import ALWAYS, NEVER, Dead, Lane, Promise, RawRows
from tidemill.spec import format_moment


@dataclass
class Queue:
    """Rows of a lane in raw order.

    Live rows are ready as they come. In a replay they are open until a promise closes them: it tells how late they may be.
    """

    lane: Lane
    rank: tuple[int, int]
    """Ties of the merge: source in the spec's order, partition."""
    ahead: int
    """How far past a promise (us) a row before it may be, by its event time or its known time."""
    floor: int = NEVER
    """The least merge key of a row behind those that are judged, until its own promises are read."""
    peak: int = NEVER
    """The merge key of the newest ready or judged row."""
    promise: int = NEVER
    """The newest promise of this replay; NEVER where there is none (yet)."""
    ended: bool = False
    said: deque[Promise] = field(default_factory=deque)
    """Promises of this replay that the log does not have yet: a restart must hear them again."""
    ready: deque[RawRows] = field(default_factory=deque)
    opened: list[RawRows] = field(default_factory=list)
    held: int = 0
    """Bytes of all rows here."""
    end: int = 0
    """The raw offset behind all that has arrived; 0 before anything has."""
    heard: int = 0
    """When rows last came, us of wall time: the beginning of an idle spell."""

    @property
    def waiting(self) -> tuple[int, int]:
        """Ready rows, which wait for other lanes; open ones, which wait for a promise of their own."""
        return sum(map(len, self.ready)), sum(map(len, self.opened))

    @property
    def until(self) -> int:
        """Nothing more will come with a merge key below this."""
        return ALWAYS if self.ended else self.promise

    def passed(self, promised: int) -> tuple[int, int]:
        """The raw offset below which nothing waits here, and the floor there; `promised` is the log's newest promise."""
        while self.said and self.said[0].until <= promised and not self.said[0].ended:
            self.floor = max(self.floor, self.said.popleft().until)
        rows = self.ready[0] if self.ready else self.opened[0] if self.opened else None
        oldest = self.end if rows is None else int(rows.offset[0])
        if self.said and self.said[0].offset < oldest:
            return self.said[0].offset, self.floor
        return oldest, int(self.ready[0].key[0]) if self.ready else self.floor

    def add(self, rows: RawRows) -> None:
        """Take rows that follow those already here."""
        if not len(rows):
            return
        self.held += _bytes(rows)
        if self.promise != NEVER:
            self.opened.append(rows)
        else:
            self._settle(rows)

    def close(self, promise: Promise) -> list[Dead]:
        """Take a promise: the open rows become ready, but those later than it allows become dead letters."""
        until = max(self.promise, promise.until)
        late = [self._late(row, until) for row in self._take_open()]
        self.promise, self.ended = until, promise.ended
        self.said.append(promise)
        self.peak = max(self.peak, until)
        return [dead for part in late for dead in part]

    def begin_replay(self) -> None:
        """What came before goes first, whatever its time; nothing of this replay has been promised."""
        for rows in self.ready:
            rows.key = np.full(len(rows), NEVER, np.int64)
        self.floor, self.peak, self.promise, self.ended = NEVER, NEVER, NEVER, False

    def end_replay(self) -> None:
        """The open rows came after the feed's end: they are live."""
        self.promise, self.ended = NEVER, False
        self.said.clear()
        for rows in self._take_open():
            self._settle(rows)

    def pop(self, key: int, inclusive: bool = False) -> list[RawRows]:
        """Remove and return the ready rows with a merge key below (or up to) `key`."""
        parts, side = [], "right" if inclusive else "left"
        while self.ready:
            rows = self.ready[0]
            count = int(np.searchsorted(rows.key, key, side))  # type: ignore[call-overload]
            if count < len(rows):
                if count:
                    parts.append(rows.cut(0, count))
                    self.ready[0] = rows.cut(count, len(rows))
                break
            parts.append(self.ready.popleft())
        if parts:
            self.floor = max(self.floor, int(parts[-1].key[-1]))
        self.held -= sum(map(_bytes, parts))
        return parts

    def _take_open(self) -> list[RawRows]:
        rows, self.opened = self.opened, []
        return rows

    def _late(self, rows: RawRows, until: int) -> list[Dead]:
        late = rows.latest >= until + self.ahead
        if late.any():
            self.held -= _bytes(rows.take(np.flatnonzero(late)))
        self._settle(rows.take(np.flatnonzero(~late)) if late.any() else rows)
        message = f"the feed promised that this source is past {format_moment(until)}, and this is later"
        return [
            Dead(self.lane, int(rows.offset[i]), errors.TIME_OUT_OF_RANGE, message, rows.origins[i])
            for i in np.flatnonzero(late).tolist()
        ]

    def _settle(self, rows: RawRows) -> None:
        if len(rows):
            rows.key = np.maximum.accumulate(np.maximum(rows.known, self.peak))
            self.peak = int(rows.key[-1])
            self.ready.append(rows)


def _bytes(rows: RawRows) -> int:
    return sum(map(len, rows.values))
