"""Compiled loops over the records of Kafka's batches (https://kafka.apache.org/documentation/#recordformat)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tidemill.compiled import kernel, part

I8 = npt.NDArray[np.int64]
U1 = npt.NDArray[np.uint8]

PLACES = 6
"""Rows of records' places: begin and length of its key, of its value, and of its headers."""


@part
def _varint(data, at, end):  # type: ignore[no-untyped-def]
    """(value, next place) of a zigzag varint; a place beyond `end` where it is cut."""
    value, shift = np.uint64(0), np.uint64(0)
    while True:
        if at >= end or shift > np.uint64(63):
            return np.int64(0), end + 1
        byte = np.uint64(data[at])
        at += 1
        value |= (byte & np.uint64(127)) << shift
        if byte < np.uint64(128):
            break
        shift += np.uint64(7)
    return np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1)), at


@kernel
def split(data: U1, begins: I8, ends: I8, firsts: I8, offsets: I8, times: I8, places: I8) -> int:
    """Find the records of batches in `data`: the places of each, its offset and its time added to what stands there already.

    `begins`, `ends`: int64[batches], where each batch's records are; `firsts`: int64[batches + 1], the rows of its records.
    `offsets`, `times`: int64[records], given as their batch's own; `places`: int64[PLACES, records]. Returns the number of the first batch that is
    not what it says, -1 where all are.
    """
    for batch in range(begins.shape[0]):
        at, end = begins[batch], ends[batch]
        for row in range(firsts[batch], firsts[batch + 1]):
            size, at = _varint(data, at, end)
            stop = at + size
            if size < 1 or stop > end:
                return batch
            at += 1  # attributes, which no version uses
            delta, at = _varint(data, at, stop)
            times[row] += delta
            delta, at = _varint(data, at, stop)
            offsets[row] += delta
            for field in (0, 2):
                size, at = _varint(data, at, stop)
                places[field, row], places[field + 1, row] = at, size
                at += max(np.int64(0), size)
                if at > stop or size < -1:
                    return batch
            places[4, row], places[5, row] = at, stop - at
            at = stop
        if at != end:
            return batch
    return -1


@kernel
def counts(data: U1, begins: I8, lengths: I8) -> I8:
    """How many headers records have: int64[records]. `begins`, `lengths`: of the records' headers."""
    found = np.zeros(begins.shape[0], np.int64)
    for row in range(begins.shape[0]):
        found[row], _ = _varint(data, begins[row], begins[row] + lengths[row])
    return found


@kernel
def first_header(data: U1, begins: I8, lengths: I8, name: U1, width: int) -> I8:
    """Where the value of each record's first header begins if it has this name and width, else -1: int64[records]."""
    found = np.full(begins.shape[0], -1, np.int64)
    for row in range(begins.shape[0]):
        end = begins[row] + lengths[row]
        count, at = _varint(data, begins[row], end)
        size, at = _varint(data, at, end)
        if count < 1 or size != name.shape[0] or at + size > end:
            continue
        same = True
        for i in range(size):
            same &= data[at + i] == name[i]
        size, at = _varint(data, at + size, end)
        if same and size == width and at + size <= end:
            found[row] = at
    return found


@part
def _put(out, at, value):  # type: ignore[no-untyped-def]
    """Write a zigzag varint; the place after it."""
    left = np.uint64((value << 1) ^ (value >> 63))
    while left >= np.uint64(128):
        out[at] = np.uint8((left & np.uint64(127)) | np.uint64(128))
        at += 1
        left >>= np.uint64(7)
    out[at] = np.uint8(left)
    return at + 1


@part
def _width(value):  # type: ignore[no-untyped-def]
    """Bytes of a zigzag varint."""
    left, width = np.uint64((value << 1) ^ (value >> 63)), 1
    while left >= np.uint64(128):
        left >>= np.uint64(7)
        width += 1
    return width


@part
def _put_bytes(out, at, data, begin, length):  # type: ignore[no-untyped-def]
    """Write a length and so many bytes; of a length of -1 none. The place after them."""
    at = _put(out, at, length)
    size = max(np.int64(0), length)
    out[at : at + size] = data[begin : begin + size]
    return at + size


@kernel
def join(keys: U1, values: U1, heads: U1, places: I8, begin: int, end: int, out: U1) -> np.int64:
    """Write the records from `begin` to `end` one after the other, all of their batch's own time; returns how many bytes they have.

    `places`: int64[PLACES, records], into `keys`, `values` and `heads`; no bytes of `heads` are no headers.
    """
    at = np.int64(0)
    for row in range(begin, end):
        delta, key, value, head = np.int64(row - begin), places[1, row], places[3, row], places[5, row]
        size = 2 + _width(delta) + _width(key) + max(np.int64(0), key) + _width(value) + max(np.int64(0), value)
        at = _put(out, at, size + max(np.int64(1), head))
        out[at] = 0
        out[at + 1] = 0
        at = _put(out, at + 2, delta)
        at = _put_bytes(out, at, keys, places[0, row], key)
        at = _put_bytes(out, at, values, places[2, row], value)
        if head:
            out[at : at + head] = heads[places[4, row] : places[4, row] + head]
            at += head
        else:
            out[at] = 0
            at += 1
    return at


@kernel
def heads(names: U1, name_begins: I8, name_lengths: I8, values: U1, begins: I8, lengths: I8) -> tuple[U1, I8]:
    """The headers of records that have the same ones: all bytes, and how many each record has, int64[records].

    `name_begins`, `name_lengths`: int64[headers], of each one's name with its length before it. `begins`, `lengths`: int64[headers, records].
    """
    count, records = begins.shape
    out, sizes = np.empty(records * (5 + name_lengths.sum() + 5 * count) + lengths.sum(), np.uint8), np.empty(records, np.int64)
    at = np.int64(0)
    for row in range(records):
        begin = at
        at = _put(out, at, np.int64(count))
        for header in range(count):
            size = name_lengths[header]
            out[at : at + size] = names[name_begins[header] : name_begins[header] + size]
            at = _put_bytes(out, at + size, values, begins[header, row], lengths[header, row])
        sizes[row] = at - begin
    return out[:at], sizes
