"""The table of accepted ids: growth, what a snapshot keeps of it, and its two ways in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from services.ingest.model import ENTRY, Ids
from services.ingest.step import kernels

Entries = npt.NDArray[np.void]
"""ENTRY rows, oldest first."""


def reserve(ids: Ids, more: int) -> None:
    """Make room for so many further entries."""
    need, size = len(ids) + more, len(ids.ring)
    if need <= size:
        return
    while size < need:
        size *= 2
    _fill(ids, live(ids), size)


def live(ids: Ids) -> Entries:
    """All entries, in a copy."""
    begin = ids.span[0] & (len(ids.ring) - 1)
    return np.concatenate([ids.ring[begin:], ids.ring[:begin]])[: len(ids)]


def restored(entries: Entries) -> Ids:
    """The table of such entries."""
    size = 1024
    while size < len(entries):
        size *= 2
    ids = Ids()
    _fill(ids, entries, size)
    return ids


def recall(ids: Ids, entries: Entries, horizon: int) -> None:
    """Enter the log's own events; `horizon` is the longest of all sources (us)."""
    reserve(ids, len(entries))
    kernels.recall(entries, horizon, ids.ring, ids.slots, ids.span)


def _fill(ids: Ids, entries: Entries, size: int) -> None:
    ids.ring, ids.slots, ids.span = np.zeros(size, ENTRY), np.zeros(4 * size, np.int64), np.array([0, len(entries)])
    ids.ring[: len(entries)] = entries
    kernels.index(ids.ring, ids.slots, ids.span)
