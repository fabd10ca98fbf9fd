"""The windowed fold, event by event, compiled (R16, R17).

One table holds one view at one slide: per entity a ring of those tiles that have events, oldest first, and per tile a row of statistics.
A ring has only so many places as the entity with the most tiles needs.
Event after event: first a trigger reads its windows, then the event is added, so any split of a log into batches gives the same bits.
Only + - * / sqrt and comparisons; no fast-math, so nothing is reordered or contracted.

Mean and standard deviation come from (n, mean, M2): Welford, Technometrics 4 (1962); merged over tiles by Chan, Golub and
LeVeque, COMPSTAT (1982).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.compiled import bare_kernel, bare_part

I8 = npt.NDArray[np.int64]
F8 = npt.NDArray[np.float64]

ROWS: Final = 0
"""Statistic: how many events."""
COUNT: Final = 1
"""How many values that are not null."""
SUM: Final = 2
MIN: Final = 3
MAX: Final = 4
LAST: Final = 5
MOMENTS: Final = 6
"""Three columns: n, mean, M2."""

AGG_COUNT: Final = 0
AGG_SUM: Final = 1
AGG_MEAN: Final = 2
AGG_MIN: Final = 3
AGG_MAX: Final = 4
AGG_LAST: Final = 5
AGG_STD: Final = 6

NEVER: Final = -(2**62)
"""Older than every tile."""

ENTITY: Final = np.dtype([("key", "u8"), ("newest", "i8"), ("first", "i8"), ("count", "i8"), ("until", "i8")])
"""An entity's row: the newest tile that was added to, where in its ring the oldest tile is, how many there are, and when it was alive last:
the later of its newest event's time and of the stream time when an event last came (us).
"""


class Layout(NamedTuple):
    """What a table computes."""

    slide: int
    """The tile length, us."""
    late: int
    """Tiles by which a trigger may be older than its entity's newest."""
    span: int
    """Tiles of the longest window of this slide, and of the lateness: one that is so much older than another is forgotten."""
    memory: int
    """Stream time (us) after which a silent entity is forgotten: twice the view's longest window and its lateness."""
    kinds: I8
    """[statistics]: ROWS, COUNT, ...; MOMENTS three times."""
    sources: I8
    """[statistics]: the column of an event's values that it is about."""
    aggs: I8
    """[features]: AGG_COUNT, ..."""
    columns: I8
    """[features]: the statistic that is read, of moments the first."""
    counters: I8
    """[features]: the statistic that tells how many values there are."""
    widths: I8
    """[features]: tiles of the window."""


class Rings(NamedTuple):
    """A table's state. Row r of all is one entity's, found by `slots`."""

    slots: I8
    """Open addressing by key: row numbers, -1 where empty."""
    entities: npt.NDArray[np.void]
    """ENTITY[room]."""
    tiles: I8
    """[room, places]: tile numbers, `count` of them from `first` on, ascending."""
    stats: F8
    """[room, places, statistics]."""
    closed: F8
    """[room, features, 3]: what all tiles before `read_at` gave to each feature. Saves work; follows from the others."""
    read_at: I8
    """[room]: the tile at which a row was read last, or NEVER."""
    used: I8
    """[1]: how many rows are some entity's."""


@bare_part
def find(rings, key):  # type: ignore[no-untyped-def]
    """The slot where `key` is, or would be."""
    slots, entities = rings.slots, rings.entities
    mask = np.uint64(slots.shape[0] - 1)
    at = key & mask
    while slots[at] >= 0 and entities[slots[at]]["key"] != key:
        at = (at + np.uint64(1)) & mask
    return at


@bare_part
def wrapped(at, ring):  # type: ignore[no-untyped-def]
    """`at % ring` of what is less than two rings, without a division."""
    return at - ring if at >= ring else at


@bare_kernel
def index(rings):  # type: ignore[no-untyped-def]
    """Let the slots find all rows that are used."""
    for row in range(rings.used[0]):
        rings.slots[find(rings, rings.entities[row]["key"])] = row


@bare_part
def place(rings, row, tile, span, kinds):  # type: ignore[no-untyped-def]
    """Where a row's ring has a tile. One that it lacks is put in order, empty; what lies a whole span behind it goes. -1: it is full."""
    entity, tiles, stats = rings.entities[row], rings.tiles, rings.stats
    ring, k = tiles.shape[1], entity["count"]
    while k > 0 and tiles[row, wrapped(entity["first"] + k - 1, ring)] > tile:
        k -= 1
    at = wrapped(entity["first"] + k - 1, ring)
    if k > 0 and tiles[row, at] == tile:
        return at
    while k > 0 and tiles[row, entity["first"]] <= tile - span:
        entity["first"] = wrapped(entity["first"] + 1, ring)
        entity["count"] -= 1
        k -= 1
    if entity["count"] == ring:
        return -1
    for later in range(entity["count"], k, -1):  # only a late event finds newer tiles there
        of, to = wrapped(entity["first"] + later - 1, ring), wrapped(entity["first"] + later, ring)
        tiles[row, to] = tiles[row, of]
        for s in range(kinds.shape[0]):
            stats[row, to, s] = stats[row, of, s]
    entity["count"] += 1
    at = wrapped(entity["first"] + k, ring)
    tiles[row, at] = tile
    for s in range(kinds.shape[0]):
        stats[row, at, s] = np.inf if kinds[s] == MIN else -np.inf if kinds[s] == MAX else 0.0
    return at


@bare_part
def add(cell, values, i, kinds, sources):  # type: ignore[no-untyped-def]
    """Add event `i` to a tile's statistics."""
    k = 0
    while k < kinds.shape[0]:
        kind = kinds[k]
        value = np.nan if kind == ROWS else values[i, sources[k]]
        if kind == ROWS:
            cell[k] += 1.0
        elif not np.isnan(value):
            if kind == COUNT:
                cell[k] += 1.0
            elif kind == SUM:
                cell[k] += value
            elif kind == MIN:
                cell[k] = min(cell[k], value)
            elif kind == MAX:
                cell[k] = max(cell[k], value)
            elif kind == LAST:
                cell[k] = value
            else:
                cell[k] += 1.0
                delta = value - cell[k + 1]
                cell[k + 1] += delta / cell[k]
                cell[k + 2] += delta * (value - cell[k + 1])
        k += 3 if kind == MOMENTS else 1


@bare_part
def merge(agg, n, value, m2, stats, row, at, column, counter):  # type: ignore[no-untyped-def]
    """(n, the sum, mean or what else an aggregation keeps, M2), and a later tile."""
    more, came = stats[row, at, counter], stats[row, at, column]
    if more == 0.0:
        return n, value, m2
    if agg == AGG_STD:
        delta, both = stats[row, at, column + 1] - value, n + more
        return both, value + delta * more / both, m2 + (stats[row, at, column + 2] + delta * delta * n * more / both)
    if agg == AGG_LAST or n == 0.0:
        return n + more, came, m2
    if agg == AGG_MIN:
        return n + more, min(value, came), m2
    if agg == AGG_MAX:
        return n + more, max(value, came), m2
    return n + more, value + came, m2


@bare_part
def summed(n, value, stats, row, begin, end, column, counter):  # type: ignore[no-untyped-def]
    """(n, sum) with what is in places begin..end of a ring behind it."""
    at = begin
    while n == 0.0 and at < end:
        n, value = stats[row, at, counter], stats[row, at, column]
        at += 1
    while at < end:
        more = stats[row, at, counter]
        if more != 0.0:
            n += more
            value += stats[row, at, column]
        at += 1
    return n, value


@bare_part
def older(agg, stats, row, first, count, column, counter):  # type: ignore[no-untyped-def]
    """What an aggregation keeps of `count` tiles from place `first` of a ring on, oldest first: see `merge`."""
    ring = stats.shape[1]
    end = min(first + count, ring)
    rest = first + count - end
    n, value, m2 = 0.0, 0.0, 0.0
    if agg in (AGG_COUNT, AGG_SUM, AGG_MEAN):
        n, value = summed(n, value, stats, row, first, end, column, counter)
        n, value = summed(n, value, stats, row, 0, rest, column, counter)
        return n, value, m2
    at = first
    for _ in range(count):
        n, value, m2 = merge(agg, n, value, m2, stats, row, at, column, counter)
        at = wrapped(at + 1, ring)
    return n, value, m2


@bare_part
def read(rings, row, tile, layout, i, start, out):  # type: ignore[no-untyped-def]
    """Every feature at `tile` into `out[i, start:]`: over the tiles (tile - width, tile], oldest first; NaN where nothing was there, of a count 0."""
    entity, tiles, stats, closed = rings.entities[row], rings.tiles, rings.stats, rings.closed
    ring, first, end = tiles.shape[1], entity["first"], entity["count"]
    again = rings.read_at[row] == tile
    rings.read_at[row] = tile
    while end > 0 and tiles[row, wrapped(first + end - 1, ring)] > tile:
        end -= 1
    before = end - 1 if end > 0 and tiles[row, wrapped(first + end - 1, ring)] == tile else end
    begin = before
    for a in range(layout.aggs.shape[0]):
        agg, column, counter = layout.aggs[a], layout.columns[a], layout.counters[a]
        if again:
            n, value, m2 = closed[row, a, 0], closed[row, a, 1], closed[row, a, 2]
        else:
            while begin > 0 and tiles[row, wrapped(first + begin - 1, ring)] > tile - layout.widths[a]:
                begin -= 1
            while begin < before and tiles[row, wrapped(first + begin, ring)] <= tile - layout.widths[a]:
                begin += 1
            n, value, m2 = older(agg, stats, row, wrapped(first + begin, ring), before - begin, column, counter)
            closed[row, a, 0], closed[row, a, 1], closed[row, a, 2] = n, value, m2
        if before < end:
            n, value, m2 = merge(agg, n, value, m2, stats, row, wrapped(first + before, ring), column, counter)
        if n == 0.0:
            out[i, start + a] = 0.0 if agg == AGG_COUNT else np.nan
        elif agg == AGG_MEAN:
            out[i, start + a] = value / n
        elif agg == AGG_STD:
            out[i, start + a] = np.sqrt(m2 / (n - 1.0)) if n > 1.0 else np.nan
        else:
            out[i, start + a] = value


@bare_part
def unseen(layout, i, start, out):  # type: ignore[no-untyped-def]
    """Every feature of an entity without events into `out[i, start:]`, which is NaN: a count is 0."""
    for a in range(layout.aggs.shape[0]):
        if layout.aggs[a] == AGG_COUNT:
            out[i, start + a] = 0.0


@bare_kernel
def fold(begin, key, time, stream, reads, adds, values, layout, rings, start, out, late):  # type: ignore[no-untyped-def]
    """Fold records `begin`.. of one table; returns the first that was not folded, because the table has no row left for it, or its row no
    place, and whether it is the latter. It may have been read, and is again.

    Per record: `key` u64 (0: none), `time` and `stream` (event and stream time, us), `reads` (the row of `out[r, start + a]` (NaN so far)
    and `late[r]` that gets what it reads, -1: none), `adds` (whether it is added), `values[n, v]` (NaN: null). An entity that has been silent
    for `memory` counts as never seen, whether its row has been given away or not.
    """
    entities, used = rings.entities, rings.used
    for i in range(begin, key.shape[0]):
        if key[i] == np.uint64(0):
            continue
        at = find(rings, key[i])
        row, tile = rings.slots[at], time[i] // layout.slide
        known = row >= 0 and stream[i] < entities[row]["until"] + layout.memory
        if reads[i] >= 0 and not known:
            unseen(layout, reads[i], start, out)
        elif reads[i] >= 0 and tile < entities[row]["newest"] - layout.late:
            late[reads[i]] = True
        elif reads[i] >= 0:
            read(rings, row, tile, layout, reads[i], start, out)
        if not adds[i]:
            continue
        if row < 0:
            if used[0] == entities.shape[0]:
                return i, False
            row = used[0]
            used[0] += 1
            rings.slots[at] = row
            entities[row]["key"] = key[i]
        entity = entities[row]
        if not known:
            entity["newest"], entity["count"], entity["until"] = tile, 0, time[i]
            rings.read_at[row] = NEVER
        entity["until"] = max(entity["until"], time[i], stream[i])
        if tile > entity["newest"] - layout.span:
            entity["newest"] = max(entity["newest"], tile)
            if tile < rings.read_at[row]:
                rings.read_at[row] = NEVER  # a tile that was closed is not
            at = place(rings, row, tile, layout.span, layout.kinds)
            if at < 0:
                return i, True
            add(rings.stats[row, at], values, i, layout.kinds, layout.sources)
    return key.shape[0], False
