"""The time-ordered split: the newest rows test, a gap is left out, the older ones train."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Row numbers, ascending; rows are in the order of time."""

    train: I64
    test: I64


def split(times: I64, share: float, gap: int) -> Split:
    """`times` (us, ascending): the newest `share` of the rows is the test, with all rows of its first moment.

    Rows younger than `gap` (us) before that moment are in neither: their labels were not known yet when the test began.
    """
    size = max(1, round(len(times) * share))
    begin = times[max(0, len(times) - size)]
    return Split(np.flatnonzero(times < begin - gap), np.flatnonzero(times >= begin))
