"""How the training rows were spread: what drift is measured against.

A number has bins between training's quantiles, a category its most frequent values and one bin for all others. Missing values are in no
bin: their share is a figure of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tidemill.errors import Rejected
from tidemill.models import metrics
from tidemill.models.encode import Columns, canonical, hashes_of, hex_of

BINS: Final = 10
"""Of a number; fewer where quantiles coincide."""
CATEGORIES: Final = 30
"""Bins of a category, the last of which holds all other values."""


@dataclass(frozen=True)
class Spread:
    """One feature's bins and training's share in each."""

    name: str
    shares: npt.NDArray[np.float64]
    """Of the rows that have a value; all 0 where none has."""
    missing: float
    """Share (0..1) of training's rows without a value."""
    edges: npt.NDArray[np.float64] | None = None
    """Of a number: bin i holds edges[i-1] <= x < edges[i]."""
    values: npt.NDArray[np.uint64] | None = None
    """Of a category: the hashes, ascending, of the values with a bin of their own; the last bin is for all others."""

    @classmethod
    def of(cls, name: str, column: npt.NDArray[Any]) -> Spread:
        """The spread of a training column (uint64: a category)."""
        category = column.dtype == np.uint64
        present = column[~absent(column)]
        edges = None if category else _edges(present.astype(np.float64))
        values = _frequent(present) if category else None
        empty = cls(name, np.zeros(_bins(edges, values)), 1 - len(present) / max(1, len(column)), edges, values)
        shares = empty.count(column) / max(1, len(present))
        return cls(name, shares, empty.missing, edges, values)

    def count(self, column: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """int64[bins]: how many of the column's values are in each bin."""
        present = column[~absent(column)]
        if self.edges is not None:
            places = np.searchsorted(self.edges, present.astype(np.float64), side="right")
        else:
            places = self._places(present.astype(np.uint64))
        return np.bincount(places, minlength=len(self.shares)).astype(np.int64)

    def psi(self, counts: npt.NDArray[np.int64]) -> float | None:
        """The population stability index of these counts; None where training had no value at all."""
        return metrics.psi(self.shares, counts) if self.shares.any() else None

    def _places(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        assert self.values is not None
        other = len(self.values)
        if not other:
            return np.zeros(len(hashes), np.int64)
        places = np.minimum(np.searchsorted(self.values, hashes), other - 1)
        return np.where(self.values[places] == hashes, places, other).astype(np.int64)


@dataclass(frozen=True)
class Reference:
    """What an artifact's `reference.json` says."""

    rows: int
    spreads: tuple[Spread, ...]
    importance: tuple[str, ...]
    """The features, the most important first."""
    test: Mapping[str, float]
    """The model's own figures on its test rows."""

    @classmethod
    def of(cls, columns: Columns, names: Sequence[str], importance: Sequence[str], test: Mapping[str, float]) -> Reference:
        """The reference of training vectors."""
        spreads = tuple(Spread.of(name, np.asarray(columns[name])) for name in names)
        return cls(len(columns[names[0]]), spreads, tuple(importance), dict(test))

    @cached_property
    def names(self) -> list[str]:
        """The features' names."""
        return [spread.name for spread in self.spreads]

    def to_json(self) -> bytes:
        """Canonical bytes."""
        return canonical(
            {
                "rows": self.rows,
                "features": [_spread_json(spread) for spread in self.spreads],
                "importance": list(self.importance),
                "test": dict(self.test),
            }
        )

    @classmethod
    def from_json(cls, data: bytes) -> Reference:
        """The reference of `to_json`; Rejected `bad-artifact` where it is none."""
        try:
            found = json.loads(data)
            spreads = tuple(_spread(row) for row in found["features"])
            test = {str(name): float(value) for name, value in found["test"].items()}
            return cls(int(found["rows"]), spreads, tuple(map(str, found["importance"])), test)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Rejected("bad-artifact", f"reference.json: {error!r}") from error


def absent(column: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which values of a vector's column are missing: NaN, or the hash 0."""
    return column == 0 if column.dtype == np.uint64 else np.isnan(column.astype(np.float64))


def importance_order(names: Sequence[str], gains: Mapping[str, float]) -> list[str]:
    """The names by falling gain; those without one last, equal ones as given."""
    return sorted(names, key=lambda name: -gains.get(name, 0.0))


def _edges(present: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Between training's quantiles; the least value has a bin of its own where it is frequent, an only value in any case."""
    if not len(present):
        return np.zeros(0)
    least = present.min()
    above = present[present > least]
    if not len(above):
        return np.array([least, np.nextafter(least, np.inf)])
    inner = np.quantile(present, np.arange(1, BINS) / BINS, method="higher")
    return np.unique(np.where(inner > least, inner, above.min()))


def _frequent(present: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    hashes, counts = np.unique(present, return_counts=True)
    often = np.argsort(-counts, kind="stable")[: CATEGORIES - 1]
    return np.sort(hashes[often])


def _bins(edges: npt.NDArray[Any] | None, values: npt.NDArray[Any] | None) -> int:
    inner = edges if edges is not None else values
    assert inner is not None
    return len(inner) + 1


def _spread_json(spread: Spread) -> dict[str, Any]:
    row = {"name": spread.name, "shares": spread.shares.tolist(), "missing": spread.missing}
    if spread.edges is not None:
        return row | {"kind": "number", "edges": spread.edges.tolist()}
    assert spread.values is not None
    return row | {"kind": "category", "values": hex_of(spread.values)}


def _spread(row: dict[str, Any]) -> Spread:
    edges = np.array(row["edges"], np.float64) if row["kind"] == "number" else None
    values = hashes_of(row["values"]) if row["kind"] == "category" else None
    shares = np.array(row["shares"], np.float64)
    if len(shares) != _bins(edges, values):
        raise ValueError(f"{row['name']} has {len(shares)} shares for {_bins(edges, values)} bins")
    return Spread(str(row["name"]), shares, float(row["missing"]), edges, values)
