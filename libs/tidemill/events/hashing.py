"""The compiled form of `identity.hash64`, for many values at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tidemill.compiled import kernel


@kernel
def hash_slices(
    data: npt.NDArray[np.uint8], begins: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """`hash64` of the slices of `data` that begin there and are so long (bytes); 0 where the length is below 0."""
    out = np.zeros(lengths.shape[0], np.uint64)
    for i in range(lengths.shape[0]):
        if lengths[i] < 0:
            continue
        state = np.uint64(0xCBF29CE484222325)
        for j in range(begins[i], begins[i] + lengths[i]):
            state = (state ^ np.uint64(data[j])) * np.uint64(0x100000001B3)
        state = (state ^ (state >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        state = (state ^ (state >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
        state ^= state >> np.uint64(33)
        out[i] = state if state != np.uint64(0) else np.uint64(1)
    return out
