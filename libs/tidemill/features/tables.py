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
_PLACES = 8
"""Tiles that each has room for."""


@dataclass
class Table:
    """Rings of tiles by entity. Which entities still count, and so what a trigger reads, does not depend on the room."""

    plan: TablePlan
    rings: Rings

    @classmethod
    def empty(cls, plan: TablePlan, room: int = _FIRST, places: int = _PLACES) -> Table:
        """A table with room for so many entities (a power of two), and so many tiles of each, but no more than can count."""
        places = min(places, plan.layout.span)
        rings = Rings(
            slots=np.full(2 * room, -1, np.int64),
            entities=np.zeros(room, kernels.ENTITY),
            tiles=np.zeros((room, places), np.int64),
            stats=np.zeros((room, places, len(plan.layout.kinds))),
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
        reads: npt.NDArray[np.int64],
        adds: npt.NDArray[np.bool_],
        values: npt.NDArray[np.float64],
        start: int,
        out: npt.NDArray[np.float64],
        late: npt.NDArray[np.bool_],
    ) -> None:
        """Fold records in order. `out`, float64[triggers, any], gets what triggers read, from column `start` on, and `late`,
        bool[triggers], which came too late, in the rows that `reads` tells; see `kernels.fold`.
        """
        begin = 0
        while True:
            begin, full = kernels.fold(
                begin, key, time, stream, reads, adds, values, self.plan.layout, self.rings, start, out, late
            )
            if begin == len(key):
                return
            if full:
                self._add_places()
            else:
                self._make_room(int(stream[begin]))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The state, without what can be derived."""
        used = int(self.rings.used[0])
        return {name: getattr(self.rings, name)[:used] for name in ("entities", "tiles", "stats")}

    @classmethod
    def restore(cls, plan: TablePlan, arrays: dict[str, npt.NDArray[Any]], room: int, places: int = 0) -> Table:
        """The table of `arrays()`, with the room it had: when it grows is part of the fold. More `places` than it had only where every
        ring begins at the first.
        """
        used, before = arrays["tiles"].shape
        table = cls.empty(plan, room, max(places, before))
        rings = table.rings
        rings.entities[:used] = arrays["entities"]
        rings.tiles[:used, :before], rings.stats[:used, :before] = arrays["tiles"], arrays["stats"]
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

    def _add_places(self) -> None:
        """Twice the places for tiles in every ring, each of which begins at its first place then."""
        arrays, before = self.arrays(), self.rings.tiles.shape[1]
        order = (arrays["entities"]["first"][:, None] + np.arange(before)) % before
        tiles = np.take_along_axis(arrays["tiles"], order, 1)
        stats = np.take_along_axis(arrays["stats"], order[:, :, None], 1)
        entities = arrays["entities"].copy()
        entities["first"] = 0
        told = {"entities": entities, "tiles": tiles, "stats": stats}
        self.rings = Table.restore(self.plan, told, self.room, 2 * before).rings
