"""The loops over single rows, compiled: identity (R6) and stream time (R7). Integers only, so any split gives the same."""

from __future__ import annotations

from typing import Final

import numpy as np

from services.ingest.model import ENTRY, NEVER
from tidemill.compiled import kernel, part

ACCEPTED, DUPLICATE, CONFLICT, PASSED = 0, 1, 2, 3
"""Verdicts. PASSED: judged before a restart, and not accepted then."""

IDLE = 3_600_000_000
"""A source whose newest event is so much older (us) than the event at hand does not hold stream time back."""

SOURCE: Final = np.dtype([("horizon", "<i8"), ("newest", "<i8")])
"""A source: how long (stream time, us) its ids are remembered, and its newest accepted known time, or NEVER."""

JUDGED: Final = np.dtype([("time", "<i8"), ("original", "<i8"), ("verdict", "u1")])
"""What became of a row: stream time after it, the log offset of the event that it repeats (-1: none, or forgotten), and the verdict."""


@part
def find(ring, slots, key):  # type: ignore[no-untyped-def]
    """The slot that holds `key`, or the empty one where it would go."""
    mask, wrap = slots.shape[0] - 1, ring.shape[0] - 1
    at = np.int64(key & np.uint64(mask))
    while slots[at] != 0 and ring[(slots[at] - 1) & wrap]["key"] != key:
        at = (at + 1) & mask
    return at


@part
def clear(ring, slots, hole):  # type: ignore[no-untyped-def]
    """Clear a slot and close the gap in its chain (Knuth, TAOCP 3, algorithm 6.4 R)."""
    mask, wrap = slots.shape[0] - 1, ring.shape[0] - 1
    at = hole
    while True:
        at = (at + 1) & mask
        if slots[at] == 0:
            break
        home = np.int64(ring[(slots[at] - 1) & wrap]["key"] & np.uint64(mask))
        if ((at - home) & mask) >= ((at - hole) & mask):
            slots[hole] = slots[at]
            hole = at
    slots[hole] = 0


@part
def forget(ring, slots, span, before):  # type: ignore[no-untyped-def]
    """Drop the entries accepted before a stream time, oldest first."""
    wrap = ring.shape[0] - 1
    while span[0] < span[1] and ring[span[0] & wrap]["time"] < before:
        slot = find(ring, slots, ring[span[0] & wrap]["key"])
        if slots[slot] == span[0] + 1:  # else the id came again and the slot is the newer entry's
            clear(ring, slots, slot)
        span[0] += 1


@kernel
def index(ring, slots, span):  # type: ignore[no-untyped-def]
    """Let the slots find all entries; of several of one key, the newest."""
    for at in range(span[0], span[1]):
        slots[find(ring, slots, ring[at & (ring.shape[0] - 1)]["key"])] = at + 1


@part
def remember(ring, slots, span, slot, key, content, time, offset):  # type: ignore[no-untyped-def]
    """Add an entry to the slot where its key belongs; the ring has room for it."""
    entry = ring[span[1] & (ring.shape[0] - 1)]
    entry["key"], entry["content"], entry["time"], entry["offset"] = key, content, time, offset
    span[1] += 1
    slots[slot] = span[1]


@part
def stream_time(sources, known, now):  # type: ignore[no-untyped-def]
    """The least of the newest known times of sources that are not idle, but never less than `now`."""
    least = known
    for source in range(sources.shape[0]):
        newest = sources[source]["newest"]
        if newest != NEVER and newest >= known - IDLE and newest < least:
            least = newest
    return max(now, least)


@kernel
def judge(key, content, source, known, passed, sources, now, place, ring, slots, span, out):  # type: ignore[no-untyped-def]
    """Judge rows in merge order into `out` (JUDGED); returns stream time after the last.

    `now` is stream time before the first row and `place` the log offset of the next record. The newest times of `sources` (SOURCE) and
    the table (`model.Ids`) change in place.
    """
    longest = sources["horizon"].max()
    for i in range(key.shape[0]):
        forget(ring, slots, span, now - longest)
        mine, row = sources[source[i]], out[i]
        row["time"], row["original"] = now, -1
        slot = find(ring, slots, key[i])
        entry = ring[(slots[slot] - 1) & (ring.shape[0] - 1)]
        if slots[slot] != 0 and now - entry["time"] <= mine["horizon"]:
            row["verdict"] = DUPLICATE if entry["content"] == content[i] else CONFLICT
            row["original"] = entry["offset"]
        elif passed[i]:
            row["verdict"] = PASSED
        else:
            mine["newest"] = max(mine["newest"], known[i])
            now = stream_time(sources, known[i], now)
            remember(ring, slots, span, slot, key[i], content[i], now, place)
            row["verdict"], row["time"] = ACCEPTED, now
            place += 1
    return now


@kernel
def recall(entries, horizon, ring, slots, span):  # type: ignore[no-untyped-def]
    """Put the log's own entries (ENTRY) into the table."""
    for i in range(entries.shape[0]):
        entry = entries[i]
        forget(ring, slots, span, entry["time"] - horizon)
        slot = find(ring, slots, entry["key"])
        remember(ring, slots, span, slot, entry["key"], entry["content"], entry["time"], entry["offset"])


def warm_up() -> None:
    """Compile everything here, or load it from the cache."""
    keys, times, small = np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.uint8)
    table = np.zeros(2, ENTRY), np.zeros(8, np.int64), np.zeros(2, np.int64)
    judge(keys, keys, small, times, np.zeros(0, np.bool_), np.zeros(1, SOURCE), 0, 0, *table, np.zeros(0, JUDGED))
    recall(np.zeros(0, ENTRY), 0, *table)
    index(*table)
