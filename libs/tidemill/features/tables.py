"""The state of one table: one view at one slide. Arrays only, so that a snapshot is a copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.features import kernels
from tidemill.features.plan import TablePlan

_FIRST = 64
"""Entities that a new table has room for."""


@dataclass
class Table:
    """Rings of tiles by entity: `keys[r]`, `newest[r]` (tile), `tiles[r, ring]`, `stats[r, ring, k]`; `slots` finds a key's row.

    `head` is (rows used, newest tile of any entity). Which entities still count does not depend on the room: see `kernels.fold`.
    """

    plan: TablePlan
    slots: npt.NDArray[np.int64]
    keys: npt.NDArray[np.uint64]
    newest: npt.NDArray[np.int64]
    tiles: npt.NDArray[np.int64]
    stats: npt.NDArray[np.float64]
    head: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, plan: TablePlan, room: int = _FIRST) -> Table:
        """A table with room for so many entities (a power of two)."""
        return cls(
            plan,
            np.full(2 * room, -1, np.int64),
            np.zeros(room, np.uint64),
            np.full(room, kernels.NEVER, np.int64),
            np.full((room, plan.ring), kernels.NEVER, np.int64),
            np.zeros((room, plan.ring, len(plan.kinds))),
            np.array([0, kernels.NEVER]),
        )

    def fold(
        self,
        key: npt.NDArray[np.uint64],
        time: npt.NDArray[np.int64],
        reads: npt.NDArray[np.bool_],
        adds: npt.NDArray[np.bool_],
        values: npt.NDArray[np.float64],
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Fold n events in order: what triggers read, float64[n, features] (NaN elsewhere), and which came too late, bool[n]."""
        plan, count = self.plan, len(key)
        out, late = np.full((count, len(plan.aggs)), np.nan), np.zeros(count, np.bool_)
        begin = 0
        while True:
            begin = kernels.fold(
                begin, key, time, reads, adds, values, plan.slide, plan.late_tiles, plan.reach,
                plan.kinds, plan.sources, plan.aggs, plan.columns, plan.counters, plan.widths,
                self.slots, self.keys, self.newest, self.tiles, self.stats, self.head, out, late,
            )  # fmt: skip
            if begin == count:
                return self._counted(out, key, reads, late), late
            self._make_room()

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The state, without what can be derived."""
        used = int(self.head[0])
        return {"keys": self.keys[:used], "newest": self.newest[:used], "tiles": self.tiles[:used], "stats": self.stats[:used]}

    @classmethod
    def restore(cls, plan: TablePlan, arrays: dict[str, npt.NDArray[Any]], room: int) -> Table:
        """The table of `arrays()`, with the room it had: when it grows is part of the fold."""
        table = cls.empty(plan, room)
        table._put(arrays["keys"], arrays["newest"], arrays["tiles"], arrays["stats"])
        return table

    @property
    def room(self) -> int:
        """How many entities fit."""
        return len(self.keys)

    def _counted(
        self, out: npt.NDArray[np.float64], key: npt.NDArray[np.uint64], reads: npt.NDArray[np.bool_], late: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float64]:
        """A count over a window without events is 0, also where the entity was never seen; not for a late or an unnamed one."""
        counts = self.plan.aggs == kernels.AGG_COUNT
        if counts.any():
            known = reads & (key != 0) & ~late
            out[:, counts] = np.where(known[:, None] & np.isnan(out[:, counts]), 0.0, out[:, counts])
        return out

    def _make_room(self) -> None:
        """Give the rows of forgotten entities away; where that frees less than half, double the room."""
        used = int(self.head[0])
        kept = np.flatnonzero(self.newest[:used] > self.head[1] - self.plan.reach)
        room = self.room if len(kept) <= self.room // 2 else 2 * self.room
        fresh = Table.empty(self.plan, room)
        fresh._put(self.keys[kept], self.newest[kept], self.tiles[kept], self.stats[kept])
        self.slots, self.keys, self.newest = fresh.slots, fresh.keys, fresh.newest
        self.tiles, self.stats, self.head = fresh.tiles, fresh.stats, fresh.head

    def _put(self, keys: Any, newest: Any, tiles: Any, stats: Any) -> None:
        """Fill the first rows of an empty table."""
        used = len(keys)
        self.keys[:used], self.newest[:used], self.tiles[:used], self.stats[:used] = keys, newest, tiles, stats
        self.head[:] = used, newest.max(initial=kernels.NEVER)
        for row in range(used):
            self.slots[kernels.find(self.slots, self.keys, self.keys[row])] = row
