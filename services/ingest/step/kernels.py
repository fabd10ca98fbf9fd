"""The loops over single rows, compiled: identity (R6) and stream time (R7). Integers only, so any split gives the same."""

from __future__ import annotations

import numpy as np

from services.ingest.model import I64, NEVER, U64
from tidemill.compiled import kernel

ACCEPTED, DUPLICATE, CONFLICT, PASSED = 0, 1, 2, 3
"""Verdicts. PASSED: judged before a restart, and not accepted then."""

IDLE = 3_600_000_000
"""A source whose newest event is so much older (us) than the event at hand does not hold stream time back."""


@kernel
def _find(ring: U64, slots: I64, key: np.uint64) -> int:
    """The slot that holds `key`, or the empty one where it would go."""
    mask, wrap = slots.shape[0] - 1, ring.shape[0] - 1
    at = np.int64(key & np.uint64(mask))
    while slots[at] != 0 and ring[(slots[at] - 1) & wrap] != key:
        at = (at + 1) & mask
    return int(at)


@kernel
def _empty(ring: U64, slots: I64, hole: int) -> None:
    """Clear a slot and close the gap in its chain (Knuth, TAOCP 3, algorithm 6.4 R)."""
    mask, wrap = slots.shape[0] - 1, ring.shape[0] - 1
    at = hole
    while True:
        at = (at + 1) & mask
        if slots[at] == 0:
            break
        home = np.int64(ring[(slots[at] - 1) & wrap] & np.uint64(mask))
        if ((at - home) & mask) >= ((at - hole) & mask):
            slots[hole] = slots[at]
            hole = at
    slots[hole] = 0


@kernel
def forget(key: U64, time: I64, slots: I64, span: I64, before: int) -> None:
    """Drop the entries accepted before a stream time, oldest first."""
    wrap = key.shape[0] - 1
    while span[0] < span[1] and time[span[0] & wrap] < before:
        slot = _find(key, slots, key[span[0] & wrap])
        if slots[slot] == span[0] + 1:  # else the id came again and the slot is the newer entry's
            _empty(key, slots, slot)
        span[0] += 1


@kernel
def remember(
    key: U64,
    content: U64,
    time: I64,
    offset: I64,
    slots: I64,
    span: I64,
    new_key: np.uint64,
    new_content: np.uint64,
    at: int,
    place: int,
) -> None:
    """Add an entry; the ring has room for it."""
    wrap = key.shape[0] - 1
    slot = _find(key, slots, new_key)
    index = span[1]
    key[index & wrap] = new_key
    content[index & wrap] = new_content
    time[index & wrap] = at
    offset[index & wrap] = place
    slots[slot] = index + 1
    span[1] = index + 1


@kernel
def stream_time(newest: I64, known: int, now: int) -> int:
    """The least of the newest known times of sources that are not idle, but never less than `now`."""
    least = known
    for source in range(newest.shape[0]):
        if newest[source] != NEVER and newest[source] >= known - IDLE and newest[source] < least:
            least = newest[source]
    return max(now, least)


@kernel
def judge(
    rows_key: U64,
    rows_content: U64,
    source: np.ndarray,
    known: I64,
    passed: np.ndarray,
    horizon: I64,
    newest: I64,
    now: int,
    place: int,
    key: U64,
    content: U64,
    time: I64,
    offset: I64,
    slots: I64,
    span: I64,
    verdict: np.ndarray,
    times: I64,
    original: I64,
) -> int:
    """Judge rows in merge order; `newest` and the table change in place. Returns stream time after the last.

    `now` is stream time before the first row and `place` the log offset of the next record. Filled per row: `verdict`,
    `times` (stream time after it), `original` (log offset of the event that a duplicate repeats, -1 where forgotten).
    """
    longest = horizon.max()
    wrap = key.shape[0] - 1
    for i in range(rows_key.shape[0]):
        forget(key, time, slots, span, now - longest)
        times[i], original[i] = now, -1
        slot = _find(key, slots, rows_key[i])
        if slots[slot] != 0:
            at = (slots[slot] - 1) & wrap
            if now - time[at] <= horizon[source[i]]:
                same = content[at] == rows_content[i]
                verdict[i], original[i] = (DUPLICATE if same else CONFLICT), offset[at]
                continue
        if passed[i]:
            verdict[i] = PASSED
            continue
        newest[source[i]] = max(newest[source[i]], known[i])
        now = stream_time(newest, known[i], now)
        remember(key, content, time, offset, slots, span, rows_key[i], rows_content[i], now, place)
        verdict[i], times[i] = ACCEPTED, now
        place += 1
    return now


@kernel
def recall(
    rows_key: U64,
    rows_content: U64,
    rows_time: I64,
    rows_offset: I64,
    longest: int,
    key: U64,
    content: U64,
    time: I64,
    offset: I64,
    slots: I64,
    span: I64,
) -> None:
    """Put the log's own rows into the table."""
    for i in range(rows_key.shape[0]):
        forget(key, time, slots, span, rows_time[i] - longest)
        remember(key, content, time, offset, slots, span, rows_key[i], rows_content[i], rows_time[i], rows_offset[i])


def warm_up() -> None:
    """Compile everything here, or load it from the cache."""
    none, no_keys, span = np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(2, np.int64)
    ring = np.zeros(2, np.uint64), np.zeros(2, np.uint64), np.zeros(2, np.int64), np.zeros(2, np.int64), np.zeros(8, np.int64)
    small, flags = np.zeros(0, np.uint8), np.zeros(0, np.bool_)
    one = np.zeros(1, np.int64)
    judge(no_keys, no_keys, small, none, flags, one, one, 0, 0, *ring, span, small, none, none)
    recall(no_keys, no_keys, none, none, 0, *ring, span)
