"""The evaluation report: every figure on the test rows, which no candidate has seen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.models import metrics

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Json = dict[str, Any]

LARGEST_SLICES = 10
"""Of a category: its most frequent values."""
_DAY = 86_400_000_000


def figures(labels: F64, scores: F64) -> dict[str, float]:
    """All metrics, with the number of rows and of positive ones."""
    return {**metrics.evaluate(labels, scores), "rows": float(len(labels)), "positives": float(np.count_nonzero(labels > 0.5))}


def by_month(times: I64, labels: F64, scores: dict[str, F64]) -> list[Json]:
    """Each calendar month (UTC) of the test rows, for each candidate."""
    months = np.array([f"{_moment(day * _DAY):%Y-%m}" for day in range(int(times[0] // _DAY), int(times[-1] // _DAY) + 1)])
    of = months[times // _DAY - times[0] // _DAY]
    return [{"month": str(month), **_each(of == month, labels, scores)} for month in np.unique(of)]


def by_value(name: str, column: npt.NDArray[np.uint64], labels: F64, scores: dict[str, F64]) -> list[Json]:
    """The most frequent values of a category, by the hash that stands for each."""
    values, counts = np.unique(column[column != 0], return_counts=True)
    often = values[np.argsort(-counts, kind="stable")[:LARGEST_SLICES]]
    return [{"feature": name, "value": f"{value:016x}", **_each(column == value, labels, scores)} for value in often]


def calibration(labels: F64, scores: F64) -> list[Json]:
    """What was said and what came, in ten bins of equal width."""
    places = np.minimum((scores * metrics.BINS).astype(np.int64), metrics.BINS - 1)
    table = []
    for place in range(metrics.BINS):
        rows = places == place
        if rows.any():
            said, came = float(scores[rows].mean()), float(labels[rows].mean())
            table.append({"from": place / metrics.BINS, "rows": int(rows.sum()), "said": said, "came": came})
    return table


def _each(rows: npt.NDArray[np.bool_], labels: F64, scores: dict[str, F64]) -> Json:
    return {name: figures(labels[rows], found[rows]) for name, found in scores.items()}


def _moment(us: int) -> datetime:
    return datetime.fromtimestamp(us // 1_000_000, UTC)
