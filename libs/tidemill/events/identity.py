"""Stable identities: the hashes of ids and entities, event ids, trace and span ids.

`hash64` is FNV-1a (64 bit, http://www.isthe.com/chongo/tech/comp/fnv/) followed by the finaliser of MurmurHash3
(fmix64, https://github.com/aappleby/smhasher). FNV alone leaves the high bits of short keys poorly mixed, and sampling
reads those. 0 means "no value" everywhere, so a hash that comes out as 0 becomes 1.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tidemill.events.blobs import Blobs

if TYPE_CHECKING:
    import polars as pl

U64 = npt.NDArray[np.uint64]

_MASK = (1 << 64) - 1
_FNV_OFFSET = 0xCBF29CE484222325
_FNV_PRIME = 0x100000001B3
_EVENTS = uuid.UUID("6f1d5f6a-52b5-5c59-9d8c-5f1b0f0e7a11")  # our namespace for uuid5; any fixed one would do


def hash64(data: bytes) -> int:
    """The hash of one value's bytes: 1 .. 2**64-1."""
    state = _FNV_OFFSET
    for byte in data:
        state = ((state ^ byte) * _FNV_PRIME) & _MASK
    state ^= state >> 33
    state = (state * 0xFF51AFD7ED558CCD) & _MASK
    state ^= state >> 33
    state = (state * 0xC4CEB9FE1A85EC53) & _MASK
    return (state ^ (state >> 33)) or 1


def hash64_many(items: Blobs) -> U64:
    """`hash64` of each item; none gives 0."""
    from tidemill.events.hashing import hash_slices  # numba takes most of a second to import: only where it is used

    return hash_slices(items.data, items.begins, items.lengths)


def hash64_column(column: pl.Series) -> U64:
    """`hash64` of a column's values as text (numbers: their decimal text); null gives 0."""
    import polars as pl

    text = column.cast(pl.String).fill_null("")
    data = text.str.join("").item().encode() if len(text) else b""
    items = Blobs.tight(np.frombuffer(data, np.uint8), text.str.len_bytes().to_numpy().astype(np.int64))
    return hash64_many(items.where(column.is_not_null().to_numpy()))


def hash64_compound(parts: Sequence[U64]) -> U64:
    """The hash of a key of several columns: of its parts' hashes, 8 little-endian bytes each, joined."""
    rows = np.ascontiguousarray(np.stack(parts, axis=1).astype("<u8"))
    return hash64_many(Blobs.tight(rows.reshape(-1).view(np.uint8), np.full(len(rows), 8 * len(parts), np.int64)))


def event_id(cause: str, kind: str, subject: str, ordinal: int = 0) -> str:
    """The id of a control event: the same cause always gives the same events."""
    return str(uuid.uuid5(_EVENTS, "\x1f".join((cause, kind, subject, str(ordinal)))))


def trace_id(stream: str, source: str, event: str) -> int:
    """The 128-bit trace id of an event: each hop knows it without a header."""
    return hash64(f"{stream}/{source}".encode()) << 64 | hash64(event.encode())


def span_id(trace: int, hop: str, partition: int, offset: int) -> int:
    """The 64-bit span id of a trace's hop (raw, log, vector, prediction, outcome) at a record's place in its topic."""
    return hash64(_named(trace, hop, partition, offset))


def span_ids(spans: Sequence[tuple[int, str, int, int]]) -> list[int]:
    """`span_id` of each (trace, hop, partition, offset)."""
    found: list[int] = hash64_many(Blobs.of([_named(*span) for span in spans])).tolist()
    return found


def _named(trace: int, hop: str, partition: int, offset: int) -> bytes:
    return trace.to_bytes(16, "big") + f"{hop}:{partition}:{offset}".encode()


def sampled(hashes: U64, share: float) -> npt.NDArray[np.bool_]:
    """Which events (by the hash of their id) are traced when `share` (0..1) of all is."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53 < share
