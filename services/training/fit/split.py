"""The time-ordered split: the newest rows test, a gap is left out, the older ones train."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidemill.spec.training import Newest

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Row numbers, ascending; rows are in the order of time."""

    train: I64
    test: I64


def split(times: I64, test: Newest, gap: int) -> Split:
    """`times` (us, ascending, at least one): the newest slice is the test, with all rows of its first moment.

    Rows younger than `gap` (us) before that moment are in neither: their labels were not known yet when the test began.
    """
    begin = _begin(times, test)
    return Split(np.flatnonzero(times < begin - gap), np.flatnonzero(times >= begin))


def _begin(times: I64, test: Newest) -> int:
    """The test's first moment."""
    if test.span is not None:
        return int(times[-1]) - test.span
    size = max(1, round(len(times) * (test.share or 0.0)))
    return int(times[max(0, len(times) - size)])
