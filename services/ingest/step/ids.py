"""The table of accepted ids: growth, what a snapshot keeps of it, and its two ways in."""

from __future__ import annotations

import numpy as np

from services.ingest.model import I64, U64, Ids
from services.ingest.step import kernels


def reserve(ids: Ids, more: int) -> None:
    """Make room for so many further entries."""
    need, size = len(ids) + more, len(ids.key)
    if need <= size:
        return
    while size < need:
        size *= 2
    _fill(ids, *live(ids), size)


def live(ids: Ids) -> tuple[U64, U64, I64, I64]:
    """Keys, contents, times and log offsets of all entries, oldest first."""
    at = np.arange(ids.span[0], ids.span[1]) & (len(ids.key) - 1)
    return ids.key[at], ids.content[at], ids.time[at], ids.offset[at]


def restored(key: U64, content: U64, time: I64, offset: I64) -> Ids:
    """The table of such entries."""
    size = 1024
    while size < len(key):
        size *= 2
    ids = Ids()
    _fill(ids, key, content, time, offset, size)
    return ids


def recall(ids: Ids, key: U64, content: U64, time: I64, offset: I64, horizon: int) -> None:
    """Enter the log's own rows: their stream times and offsets; `horizon` is the longest of all sources (us)."""
    reserve(ids, len(key))
    kernels.recall(key, content, time, offset, horizon, ids.key, ids.content, ids.time, ids.offset, ids.slots, ids.span)


def _fill(ids: Ids, key: U64, content: U64, time: I64, offset: I64, size: int) -> None:
    ids.key, ids.content = np.zeros(size, np.uint64), np.zeros(size, np.uint64)
    ids.time, ids.offset = np.zeros(size, np.int64), np.zeros(size, np.int64)
    ids.slots, ids.span = np.zeros(4 * size, np.int64), np.zeros(2, np.int64)
    kernels.recall(key, content, time, offset, 2**62, ids.key, ids.content, ids.time, ids.offset, ids.slots, ids.span)
