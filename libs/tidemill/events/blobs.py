"""The keys or values of a batch as a column: all their bytes in one buffer, and where each begins.

A record is a Python object only where somebody asks for it by its index; whatever is done to all of them is done to arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Self

import numpy as np
import numpy.typing as npt

I8 = npt.NDArray[np.int64]
U1 = npt.NDArray[np.uint8]
Some = npt.NDArray[np.integer] | npt.NDArray[np.bool_] | slice
"""Which of a column, as numpy takes it."""
_SPARSE: Final = 256
"""Bytes of a buffer that nothing stands in, which are not worth a copy of the others."""


@dataclass(frozen=True, slots=True, eq=False)
class Blobs:
    """n byte strings, some of which may be missing (None)."""

    data: U1
    """uint8[any], contiguous: the bytes, and maybe others between them."""
    begins: I8
    """int64[n]"""
    lengths: I8
    """int64[n]: -1 where there is none."""

    def __post_init__(self) -> None:
        """Whoever made the buffer, nothing is written into it: a kernel is compiled for one kind of array, not for two."""
        if self.data.flags.writeable:
            data = self.data.view()
            data.flags.writeable = False
            object.__setattr__(self, "data", data)

    @classmethod
    def of(cls, items: Sequence[bytes | None]) -> Self:
        """A column of these."""
        if None in items:
            lengths = np.array([-1 if item is None else len(item) for item in items], np.int64)
        else:
            lengths = np.fromiter(map(len, items), np.int64, len(items))  # type: ignore[arg-type]
        return cls.tight(np.frombuffer(b"".join(filter(None, items)), np.uint8), lengths)

    @classmethod
    def of_texts(cls, texts: Sequence[str | None]) -> Self:
        """A column of these as UTF-8."""
        joined = "".join(filter(None, texts))
        data = joined.encode("utf-8", "surrogatepass")
        if None in texts or len(data) != len(joined):
            return cls.of([None if text is None else text.encode("utf-8", "surrogatepass") for text in texts])
        return cls.tight(np.frombuffer(data, np.uint8), np.fromiter(map(len, texts), np.int64, len(texts)))  # type: ignore[arg-type]

    @classmethod
    def same(cls, item: bytes, count: int) -> Self:
        """So many times the same."""
        return cls(np.frombuffer(item, np.uint8), np.zeros(count, np.int64), np.full(count, len(item), np.int64))

    @classmethod
    def of_strings(cls, strings: npt.NDArray[np.bytes_]) -> Self:
        """A column of an array of byte strings, which none of them ends with a zero byte."""
        data, width = np.ascontiguousarray(strings).view(np.uint8), strings.dtype.itemsize
        begins = np.arange(len(strings), dtype=np.int64) * width
        return cls(data, begins, np.char.str_len(strings).astype(np.int64))

    @classmethod
    def tight(cls, data: U1, lengths: I8) -> Self:
        """A column of what stands in `data` without anything between."""
        widths = np.maximum(lengths, 0)
        return cls(data, widths.cumsum() - widths, lengths)

    @classmethod
    def rows(cls, rows: npt.NDArray[np.void]) -> Self:
        """The bytes of each row of a structured array."""
        data, width = np.ascontiguousarray(rows).view(np.uint8).reshape(-1), rows.dtype.itemsize
        return cls(data, np.arange(len(rows), dtype=np.int64) * width, np.full(len(rows), width, np.int64))

    @classmethod
    def concat(cls, parts: Sequence[Blobs]) -> Blobs:
        """One column after the other."""
        if len(parts) < 2:
            return parts[0] if parts else cls.of([])
        lean = [part.packed() if len(part.data) > _SPARSE + 2 * part.lengths.sum() else part for part in parts]
        ends = accumulate(len(part.data) for part in lean)
        begins = [part.begins + (end - len(part.data)) for part, end in zip(lean, ends, strict=True)]
        data, lengths = np.concatenate([part.data for part in lean]), np.concatenate([part.lengths for part in lean])
        return cls(data, np.concatenate(begins), lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, at: int) -> bytes:
        """One of them; empty where there is none."""
        begin = int(self.begins[at])
        return self.data[begin : begin + max(0, int(self.lengths[at]))].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        """Each; empty where there is none."""
        low, ends = self.begins.min(initial=len(self.data)), self.begins + np.maximum(self.lengths, 0)
        data = self.data[low : ends.max(initial=0)].tobytes()
        return iter([data[begin:end] for begin, end in zip((self.begins - low).tolist(), (ends - low).tolist(), strict=True)])

    def get(self, at: int) -> bytes | None:
        """One of them."""
        return None if self.lengths[at] < 0 else self[at]

    def tolist(self) -> list[bytes | None]:
        """All of them."""
        return [None if length < 0 else item for item, length in zip(self, self.lengths.tolist(), strict=True)]

    def chosen(self, index: Some) -> Blobs:
        """Some of them, in this order; their bytes stay where they are."""
        return Blobs(self.data, self.begins[index], self.lengths[index])

    def replaced(self, index: I8, others: Blobs) -> Blobs:
        """The same with these instead of those at `index`."""
        begins, lengths = self.begins.copy(), self.lengths.copy()
        begins[index], lengths[index] = others.begins + len(self.data), others.lengths
        return Blobs(np.concatenate([self.data, others.data]), begins, lengths)

    def present(self) -> Blobs:
        """The same, but empty where there is none."""
        return Blobs(self.data, self.begins, np.maximum(self.lengths, 0))

    def where(self, there: npt.NDArray[np.bool_]) -> Blobs:
        """The same, but none where `there` is not so."""
        return Blobs(self.data, self.begins, np.where(there, self.lengths, -1))

    def beyond(self, width: int) -> Blobs:
        """Each without its first `width` bytes; one that is shorter is empty."""
        cut = np.clip(self.lengths, 0, width)
        return Blobs(self.data, self.begins + cut, self.lengths - cut)

    def followed(self, other: Blobs) -> Blobs:
        """Each with the other column's behind it; none may be missing."""
        pairs = np.arange(2 * len(self)).reshape(2, -1).T.reshape(-1)
        return Blobs.tight(Blobs.concat([self, other]).chosen(pairs).packed().data, self.lengths + other.lengths)

    def packed(self) -> Blobs:
        """The same with nothing between them."""
        tight = Blobs.tight(self.data, self.lengths)
        if len(self.data) == np.maximum(self.lengths, 0).sum() and (tight.begins == self.begins).all():
            return self
        from tidemill.events.gather import gather  # numba takes most of a second to import: only where it is used

        return Blobs(gather(self.data, self.begins, self.lengths), tight.begins, self.lengths)

    def heads(self, dtype: np.dtype[np.void]) -> tuple[npt.NDArray[np.void], I8]:
        """The row that each begins with, and the indices of those that are long enough."""
        sound = np.flatnonzero(self.lengths >= dtype.itemsize)
        return _rows_at(self.data, self.begins[sound], dtype), sound

    def structs(self, dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
        """The row that each is; raises ValueError where one is of another size."""
        if (self.lengths != dtype.itemsize).any():
            raise ValueError(f"not all are {dtype.itemsize} bytes long")
        return _rows_at(self.data, self.begins, dtype)


def _rows_at(data: U1, begins: I8, dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
    """The rows that begin at these places, in an array of their own."""
    if not len(begins):
        return np.zeros(0, dtype)
    width = dtype.itemsize
    every = np.ndarray(len(data) - width + 1, f"V{width}", data, strides=(1,))  # as fields each would be copied by itself
    return every[begins].view(dtype)
