"""What an evaluation measures, in numpy alone: training and monitoring use the same figures.

`labels` are 0 or 1, `scores` the probabilities of 1; both float64[n], n > 0.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

BINS: Final = 10
"""Of a calibration curve."""
_EPSILON: Final = float(np.finfo(np.float64).eps)


def log_loss(labels: F64, scores: F64) -> float:
    """Mean negative log likelihood; scores are kept one epsilon from 0 and 1."""
    safe = np.clip(scores, _EPSILON, 1 - _EPSILON)
    return float(-np.mean(np.where(labels > 0.5, np.log(safe), np.log1p(-safe))))


def auc(labels: F64, scores: F64) -> float | None:
    """Area under the ROC curve, ties counted half (Mann-Whitney); None where only one class is there."""
    positive = labels > 0.5
    ones = int(np.count_nonzero(positive))
    zeros = len(labels) - ones
    if not ones or not zeros:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2  # the mean rank of each distinct score
    return float((np.sum(middle[inverse][positive]) - ones * (ones + 1) / 2) / (ones * zeros))


def brier(labels: F64, scores: F64) -> float:
    """Mean squared error of the probability (Brier 1950)."""
    return float(np.mean((scores - labels) ** 2))


def calibration_error(labels: F64, scores: F64) -> float:
    """Expected calibration error over ten bins of equal width (Naeini, Cooper, Hauskrecht 2015)."""
    places = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(places, labels - scores, BINS)
    return float(np.sum(np.abs(gaps)) / len(labels))


def evaluate(labels: F64, scores: F64) -> dict[str, float]:
    """All of them by name; `auc` is left out where only one class is there, everything where there is no row."""
    if not len(labels):
        return {}
    area = auc(labels, scores)
    found = {
        "log_loss": log_loss(labels, scores),
        "brier": brier(labels, scores),
        "calibration_error": calibration_error(labels, scores),
    }
    return found if area is None else found | {"auc": area}


def psi(expected: F64 | list[float], counts: Counts | npt.NDArray[Any]) -> float:
    """Population stability index of `counts` (int[bins]) against `expected` shares (float64[bins]).

    Sum of (actual - expected) ln(actual / expected). Half a row is added to every bin, on both sides as if of the same number
    of rows, so that an empty bin counts as much as the sample's size allows.
    """
    total = float(np.sum(counts)) + 0.5 * len(counts)
    actual = (np.asarray(counts) + 0.5) / total
    wanted = (np.asarray(expected) * np.sum(counts) + 0.5) / total
    return float(np.sum((actual - wanted) * np.log(actual / wanted)))
