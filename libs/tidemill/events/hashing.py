"""The compiled form of `identity.hash64`, for many values at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tidemill.compiled import kernel


@kernel
def hash_slices(data: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """`hash64` of consecutive slices of `data` with these lengths (bytes)."""
    out = np.empty(lengths.shape[0], np.uint64)
    at = 0
    for i in range(lengths.shape[0]):
        state = np.uint64(0xCBF29CE484222325)
        for j in range(at, at + lengths[i]):
            state = (state ^ np.uint64(data[j])) * np.uint64(0x100000001B3)
        at += lengths[i]
        state = (state ^ (state >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        state = (state ^ (state >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
        state ^= state >> np.uint64(33)
        out[i] = state if state != np.uint64(0) else np.uint64(1)
    return out
