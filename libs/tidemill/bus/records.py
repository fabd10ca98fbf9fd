"""Kafka's record batches as columns, and back (https://kafka.apache.org/documentation/#recordbatch).

Between the broker and a fold no record is a Python object: what the broker sends is checked, decompressed and split by compiled loops.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
from aiokafka import codec
from crc32c import crc32c

from tidemill.bus import lz4
from tidemill.bus import record_kernels as kernels
from tidemill.bus.heads import columns, counts
from tidemill.events.blobs import I8, Blobs, Some
from tidemill.events.log_header import HEADER, LOG_HEADER

_HEAD: Final = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, magic, checksum, attributes, last offset's delta, first and largest time, producer, epoch, sequence, count."""
_SIZE: Final = struct.Struct(">qi")
_COVERED: Final = struct.Struct(">hiqqqhii")
"""What the checksum covers of the head."""
_MAGIC: Final = 2
_CODEC, _APPEND_TIME, _CONTROL = 0b111, 0b1000, 0b100000
_LARGE: Final = 1_000_000
"""Bytes of records in a batch, where one record alone is not larger."""
_OVERHEAD: Final = 40
"""Bytes of a record that are not its key, value or headers, at most."""

_DECODERS: Final[dict[int, Callable[[memoryview], bytes]]] = {
    1: codec.gzip_decode,
    2: codec.snappy_decode,
    3: codec.lz4_decode,
    4: codec.zstd_decode,
}
_CODECS: Final = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
_ENCODERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "none": lambda body: body,
    "gzip": partial(codec.gzip_encode, compresslevel=1),
    "snappy": codec.snappy_encode,
    "lz4": lz4.frame,
    "zstd": partial(codec.zstd_encode, level=1),
}


class Damaged(RuntimeError):
    """The broker's bytes are not what they say."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """n records of one partition, in order."""

    offsets: I8
    times: I8
    """ms since the epoch: when the broker appended each, or what its producer said."""
    keys: Blobs
    values: Blobs
    heads: Blobs
    """Each one's headers, see `bus.heads`."""

    def __len__(self) -> int:
        return len(self.offsets)

    def part(self, which: Some) -> Fetched:
        """Some of them; no bytes are copied."""
        blobs = (column.chosen(which) for column in (self.keys, self.values, self.heads))
        return Fetched(self.offsets[which], self.times[which], *blobs)

    def stamps(self) -> tuple[npt.NDArray[np.void], I8]:
        """The LOG_HEADER rows of those whose first header is one, and their indices."""
        name, width = np.frombuffer(HEADER.encode(), np.uint8), LOG_HEADER.itemsize
        begins = kernels.first_header(self.heads.data, self.heads.begins, self.heads.lengths, name, width)
        sound = np.flatnonzero(begins >= 0)
        stamps = Blobs(self.heads.data, begins[sound], np.full(len(sound), width, np.int64))
        return stamps.heads(LOG_HEADER)[0], sound


@dataclass(frozen=True, slots=True)
class _Found:
    """A batch's head, and where its records are."""

    base: int
    last: int
    time: int
    attributes: int
    count: int
    body: memoryview


def following(data: bytes, offset: int) -> tuple[int, int]:
    """The offset after the last whole batch of `data`, `offset` where there is none; and how many bytes the whole ones are.

    A broker cuts an answer where it is full, in the middle of a batch.
    """
    at = 0
    while at + _HEAD.size <= len(data):
        base, size = _SIZE.unpack_from(data, at)
        if at + _SIZE.size + size > len(data):
            break
        offset = base + _HEAD.unpack_from(data, at)[6] + 1
        at += _SIZE.size + size
    return offset, at


def read(data: bytes, offset: int) -> Fetched | None:
    """The records from `offset` on of what a broker answered; None where there are none. A batch that is cut at the end is left out.

    Raises Damaged.
    """
    batches = [batch for batch in _batches(data) if batch.count and batch.last >= offset and not batch.attributes & _CONTROL]
    if not batches:
        return None
    bodies = [_plain(batch) for batch in batches]
    ends = np.cumsum([len(body) for body in bodies], dtype=np.int64)
    firsts = np.cumsum([0, *(batch.count for batch in batches)], dtype=np.int64)
    counts = np.diff(firsts)
    buffer = np.frombuffer(bodies[0] if len(bodies) == 1 else b"".join(bodies), np.uint8)
    offsets = np.repeat(np.array([batch.base for batch in batches], np.int64), counts)
    times = np.repeat(np.array([batch.time for batch in batches], np.int64), counts)
    places = np.empty((kernels.PLACES, int(firsts[-1])), np.int64)
    begins = ends - np.array([len(body) for body in bodies], np.int64)
    appended = np.repeat(np.array([bool(batch.attributes & _APPEND_TIME) for batch in batches]), counts)
    said = times.copy()
    bad = kernels.split(buffer, begins, ends, firsts, offsets, said, places)
    if bad >= 0:
        raise Damaged(f"the batch at offset {batches[bad].base} holds other records than its head says")
    columns = (Blobs(buffer, places[field], places[field + 1]) for field in (0, 2, 4))
    found = Fetched(offsets, np.where(appended, times, said), *columns)
    fresh = found if offsets[0] >= offset else found.part(slice(int(np.searchsorted(offsets, offset)), None))
    return fresh if len(fresh) else None  # where a topic is compacted, a batch's last offset may have no record


def _batches(data: bytes) -> Iterator[_Found]:
    view, at = memoryview(data), 0
    while at + _HEAD.size <= len(data):
        base, size, _, magic, checksum, attributes, last, first, largest, _, _, _, count = _HEAD.unpack_from(data, at)
        end = at + _SIZE.size + size
        if magic != _MAGIC:
            raise Damaged(f"the batch at offset {base} is of format {magic}; only {_MAGIC} is read")
        if end > len(data):
            return
        if crc32c(view[at + 21 : end]) != checksum:
            raise Damaged(f"the batch at offset {base} does not have its checksum")
        time = largest if attributes & _APPEND_TIME else first
        yield _Found(base, base + last, time, attributes, count, view[at + _HEAD.size : end])
        at = end


def _plain(batch: _Found) -> bytes | memoryview:
    if not (number := batch.attributes & _CODEC):
        return batch.body
    try:
        return _DECODERS[number](batch.body)
    except Exception as error:
        raise Damaged(f"the batch at offset {batch.base} cannot be decompressed: {error}") from error


def bodies(keys: Blobs, values: Blobs, heads: Blobs) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Records as the bodies of batches of at most about 1 MB: how many each has, and its bytes. An empty head has no headers."""
    places = np.stack([column for blobs in (keys, values, heads) for column in (blobs.begins, blobs.lengths)])
    sizes = np.maximum(places[1::2], 0).sum(axis=0) + _OVERHEAD
    for begin, end in _cuts(sizes):
        out = np.empty(int(sizes[begin:end].sum()), np.uint8)
        size = int(kernels.join(keys.data, values.data, heads.data, places, begin, end, out))
        yield end - begin, out[:size]


def rehearse() -> None:
    """Compile what is compiled on first use."""
    keys, values = Blobs.of([b"k", None]), Blobs.of([b"v", b"v"])
    [(count, body)] = bodies(keys, values, columns({"h": values}))
    found = read(framed(body.tobytes(), count, "none", (-1, -1, -1)), 0)
    assert found is not None
    found.stamps()
    counts(found.heads)


def _cuts(sizes: I8) -> Iterator[tuple[int, int]]:
    begin, ends = 0, np.cumsum(sizes)
    while begin < len(sizes):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + _LARGE, "right")))
        yield begin, end
        begin = end


def framed(packed: bytes, count: int, compression: str, producer: tuple[int, int, int]) -> bytes:
    """A batch with such a compressed body; `producer`: its id, epoch and this batch's first sequence number."""
    now = time.time_ns() // 1_000_000
    covered = _COVERED.pack(_CODECS[compression], count - 1, now, now, *producer, count)
    checksum = crc32c(packed, crc32c(covered))
    return struct.pack(">qiibI", 0, 9 + len(covered) + len(packed), -1, _MAGIC, checksum) + covered + packed


def compress(body: bytes, compression: str) -> bytes:
    """By the quickest level of a codec; raises KeyError where there is no such codec."""
    return _ENCODERS[compression](body)
