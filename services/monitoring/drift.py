"""How the vectors of a window are spread over the bins of the champion's reference. Pure.

Counts of parts add up, so vectors are kept only until there are enough for the counting to be worth its while.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from tidemill.events.blobs import Blobs
from tidemill.models.kinds import Kind
from tidemill.models.reference import Reference, absent

ENOUGH: Final = 4_096
"""Vectors that are counted together."""


@dataclass
class Drift:
    """A window's vectors since the champion's last change."""

    rows: int = 0
    """Vectors that were counted."""
    bins: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    """By feature, how many vectors have their value in each bin."""
    missing: dict[str, int] = field(default_factory=dict)
    """By feature, how many have none."""
    waiting: dict[int, Blobs] = field(default_factory=dict)
    """By schema, vectors that are not counted yet: a new spec may change their fields in the middle of a window."""

    def add(self, ids: npt.NDArray[np.int64], values: Blobs, reference: Reference | None, kinds: Mapping[int, Kind]) -> None:
        """Take vectors with their schemas' ids."""
        self.keep(ids, values)
        if sum(map(len, self.waiting.values())) >= ENOUGH:
            self.count(reference, kinds)

    def keep(self, ids: npt.NDArray[np.int64], values: Blobs) -> None:
        """Let vectors wait, with their schemas' ids."""
        for number in np.unique(ids).tolist():
            before = self.waiting.get(number, Blobs.of([]))
            self.waiting[number] = Blobs.concat([before, values.chosen(ids == number)])

    def count(self, reference: Reference | None, kinds: Mapping[int, Kind]) -> None:
        """Count what waits; without a reference there is nothing to count it against."""
        for number, values in self.waiting.items():
            dtype = kinds[number].dtype
            if reference is not None and dtype is not None:
                self._count(reference, values.structs(dtype))
        self.waiting.clear()

    def psi(self, reference: Reference) -> dict[str, float]:
        """The population stability index of each feature that has one."""
        found = {spread.name: spread.psi(self.bins[spread.name]) for spread in reference.spreads if spread.name in self.bins}
        return {name: float(value) for name, value in found.items() if value is not None and np.isfinite(value)}

    def shares(self, reference: Reference) -> dict[str, float]:
        """The share of missing values of each feature."""
        return {name: self.missing[name] / self.rows for name in reference.names if self.rows}

    def _count(self, reference: Reference, vectors: npt.NDArray[np.void]) -> None:
        self.rows += len(vectors)
        for spread in reference.spreads:
            there = spread.name in (vectors.dtype.names or ())
            column = vectors[spread.name] if there else np.full(len(vectors), np.nan)
            self.missing[spread.name] = self.missing.get(spread.name, 0) + int(absent(column).sum())
            self.bins[spread.name] = self.bins.get(spread.name, 0) + spread.count(column)

    def to_plain(self) -> dict[str, Any]:
        """Plain values; what waits is not among them."""
        return {"rows": self.rows, "missing": self.missing, "bins": {name: bins.tolist() for name, bins in self.bins.items()}}

    @classmethod
    def from_plain(cls, found: Mapping[str, Any]) -> Self:
        """The same again."""
        return cls(found["rows"], {name: np.array(bins, np.int64) for name, bins in found["bins"].items()}, dict(found["missing"]))
