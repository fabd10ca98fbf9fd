"""The state of one table: one view at one slide. Arrays only, so that a snapshot is a copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.features import kernels
from tidemill.features.kernels import Rings
from tidemill.features.plan import TablePlan

_FIRST = 64
"""Entities that a new table has room for."""


@dataclass
class Table:
    """Rings of tiles by entity. Which entities still count, and so what a trigger reads, does not depend on the room."""

    plan: TablePlan
    rings: Rings

    @classmethod
    def empty(cls, plan: TablePlan, room: int = _FIRST) -> Table:
        """A table with room for so many entities (a power of two)."""
        rings = Rings(
            slots=np.full(2 * room, -1, np.int64),
            entities=np.zeros(room, kernels.ENTITY),
            tiles=np.zeros((room, plan.ring), np.int64),
            stats=np.zeros((room, plan.ring, len(plan.layout.kinds))),
            closed=np.zeros((room, len(plan.layout.aggs), 3)),
            read_at=np.full(room, kernels.NEVER, np.int64),
            used=np.zeros(1, np.int64),
        )
        return cls(plan, rings)

    def under(self, plan: TablePlan) -> Table:
        """The same state under a plan of the same identity, whose features may have other names, windows and order."""
        return Table.restore(plan, self.arrays(), self.room)

    def fold(
        self,
        key: npt.NDArray[np.uint64],
        time: npt.NDArray[np.int64],
        stream: npt.NDArray[np.int64],
        reads: npt.NDArray[np.bool_],
        adds: npt.NDArray[np.bool_],
        values: npt.NDArray[np.float64],
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Fold n events in order: what triggers read, float64[n, features] (NaN elsewhere), and which came too late, bool[n]."""
        layout, count = self.plan.layout, len(key)
        out, late = np.full((count, len(layout.aggs)), np.nan), np.zeros(count, np.bool_)
        begin = 0
        while True:
            begin = kernels.fold(begin, key, time, stream, reads, adds, values, layout, self.rings, out, late)
            if begin == count:
                return out, late
            self._make_room(int(stream[begin]))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The state, without what can be derived."""
        used = int(self.rings.used[0])
        return {name: getattr(self.rings, name)[:used] for name in ("entities", "tiles", "stats")}

    @classmethod
    def restore(cls, plan: TablePlan, arrays: dict[str, npt.NDArray[Any]], room: int) -> Table:
        """The table of `arrays()`, with the room it had: when it grows is part of the fold."""
        table, used = cls.empty(plan, room), len(arrays["entities"])
        rings = table.rings
        for name, array in arrays.items():
            getattr(rings, name)[:used] = array
        rings.used[0] = used
        kernels.index(rings)
        return table

    @property
    def room(self) -> int:
        """How many entities fit."""
        return len(self.rings.entities)

    def _make_room(self, stream: int) -> None:
        """Give the rows of entities away that are forgotten by now; where that frees less than half, double the room."""
        arrays = self.arrays()
        kept = np.flatnonzero(stream < arrays["entities"]["until"] + self.plan.layout.memory)
        room = self.room if len(kept) <= self.room // 2 else 2 * self.room
        self.rings = Table.restore(self.plan, {name: array[kept] for name, array in arrays.items()}, room).rings
