"""The windowed fold, event by event, compiled (R16, R17).

One table holds one view at one slide: per entity a ring of tiles, per tile a row of statistics. Event after event: first a trigger
reads its windows, then the event is added, so any split of a log into batches gives the same bits. Only + - * / sqrt and
comparisons; no fast-math, so nothing is reordered or contracted.

Mean and standard deviation come from (n, mean, M2): Welford, Technometrics 4 (1962); merged over tiles by Chan, Golub and
LeVeque, COMPSTAT (1982).
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np

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
"""The tile of a slot that was never written."""


@numba.njit(cache=True)
def find(slots, keys, key):  # type: ignore[no-untyped-def]
    """Where `key` is, or would be, in an open-addressing table of row numbers (-1: empty)."""
    mask = np.uint64(slots.shape[0] - 1)
    at = key & mask
    while slots[at] >= 0 and keys[slots[at]] != key:
        at = (at + np.uint64(1)) & mask
    return at


@numba.njit(cache=True)
def add(row, slot, tile, values, i, kinds, sources, tiles, stats):  # type: ignore[no-untyped-def]
    """Add event `i` to a tile; a tile that takes a slot over begins empty."""
    if tiles[row, slot] != tile:
        tiles[row, slot] = tile
        for k in range(kinds.shape[0]):
            stats[row, slot, k] = np.inf if kinds[k] == MIN else -np.inf if kinds[k] == MAX else 0.0
    cell = stats[row, slot]
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


@numba.njit(cache=True)
def read(row, tile, width, agg, column, counter, tiles, stats):  # type: ignore[no-untyped-def]
    """One window feature at `tile`: over the tiles (tile - width, tile], oldest first; NaN where nothing was there."""
    ring = tiles.shape[1]
    n, total, mean, m2 = 0.0, 0.0, 0.0, 0.0
    low, high, last = np.inf, -np.inf, np.nan
    slot = (tile - width) % ring
    for t in range(tile - width + 1, tile + 1):
        slot = slot + 1 if slot + 1 < ring else 0  # t % ring, without a division for each tile
        if tiles[row, slot] != t:
            continue
        count = stats[row, slot, counter]
        if count == 0.0:
            continue
        value = stats[row, slot, column]
        if agg == AGG_STD:
            delta, both = stats[row, slot, column + 1] - mean, n + count
            mean += delta * count / both
            m2 += stats[row, slot, column + 2] + delta * delta * n * count / both
        elif agg == AGG_MIN:
            low = min(low, value)
        elif agg == AGG_MAX:
            high = max(high, value)
        elif agg == AGG_LAST:
            last = value
        else:
            total += value
        n += count
    if agg == AGG_COUNT:
        return total
    if n == 0.0:
        return np.nan
    if agg == AGG_SUM:
        return total
    if agg == AGG_MEAN:
        return total / n
    if agg == AGG_MIN:
        return low
    if agg == AGG_MAX:
        return high
    if agg == AGG_LAST:
        return last
    return np.sqrt(m2 / (n - 1.0)) if n > 1.0 else np.nan


@numba.njit(cache=True)
def fold(  # type: ignore[no-untyped-def]
    begin, key, time, reads, adds, values, slide, late_tiles, reach, kinds, sources, aggs, columns, counters, widths,
    slots, keys, newest, tiles, stats, head, out, late,
):  # fmt: skip
    """Fold events `begin`.. of one table; returns the first event that was not folded, because the table has no row left for it.

    Per event: `key` u64 (0: none), `time` us, `reads`/`adds`, `values[n, v]` (NaN: null). `out[n, a]` and `late[n]` get what a
    trigger reads; `head` is (rows used, newest tile of any entity). An entity that lies `reach` tiles or more behind that tile counts
    as never seen, whether its row has been given away or not.
    """
    ring = tiles.shape[1]
    for i in range(begin, key.shape[0]):
        if key[i] == np.uint64(0):
            continue
        at = find(slots, keys, key[i])
        row = slots[at]
        tile = time[i] // slide
        known = row >= 0 and newest[row] > head[1] - reach
        if reads[i] and known:
            if tile < newest[row] - late_tiles:
                late[i] = True
            else:
                for a in range(aggs.shape[0]):
                    out[i, a] = read(row, tile, widths[a], aggs[a], columns[a], counters[a], tiles, stats)
        if not adds[i]:
            continue
        if row < 0:
            if head[0] == keys.shape[0]:
                return i
            row = head[0]
            head[0] += 1
            slots[at], keys[row] = row, key[i]
        if not known:
            newest[row] = tile
            tiles[row] = NEVER
        head[1] = max(head[1], tile)
        if tile > newest[row] - ring:
            newest[row] = max(newest[row], tile)
            add(row, tile % ring, tile, values, i, kinds, sources, tiles, stats)
    return key.shape[0]
