"""Compiled copying of slices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tidemill.compiled import kernel


@kernel
def gather(data: npt.NDArray[np.uint8], begins: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """The slices of `data` that begin there and are so long, one after the other; a length below 0 is no slice."""
    total = np.int64(0)
    for i in range(lengths.shape[0]):
        total += max(np.int64(0), lengths[i])
    out = np.empty(total, np.uint8)
    at = np.int64(0)
    for i in range(lengths.shape[0]):
        length = max(np.int64(0), lengths[i])
        out[at : at + length] = data[begins[i] : begins[i] + length]
        at += length
    return out
