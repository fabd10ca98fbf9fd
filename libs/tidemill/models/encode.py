"""From vectors to the matrix that a model reads.

Numbers stay numbers. A category, which travels as the hash of its text (R15), becomes its place in a table that belongs to the
artifact; a category that training has not seen is missing.
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

Columns = Mapping[str, npt.NDArray[Any]] | npt.NDArray[np.void]
"""Vectors by column: a structured array, or a mapping; all that is asked of it is `columns[name]`."""
F32 = npt.NDArray[np.float32]

_LARGEST: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Feature:
    """One column of the matrix."""

    name: str
    codes: npt.NDArray[np.uint64] | None = None
    """Of a category: the hashes of its known values, ascending; a value's code is its index here."""

    @property
    def kind(self) -> str:
        """`number` or `category`."""
        return "number" if self.codes is None else "category"

    def encode(self, column: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """float64[n], NaN where missing; finite as float32."""
        if self.codes is None:
            return np.clip(column.astype(np.float64), -_LARGEST, _LARGEST)
        if not len(self.codes):
            return np.full(len(column), np.nan)
        hashes = column.astype(np.uint64)
        places = np.minimum(np.searchsorted(self.codes, hashes), len(self.codes) - 1)
        return np.where(self.codes[places] == hashes, places, np.nan)


@dataclass(frozen=True)
class Encoding:
    """What an artifact's `encoding.json` says: for whom, which features in which order, which threshold decides."""

    model: str
    trigger: str
    threshold: float
    features: tuple[Feature, ...]

    @classmethod
    def fit(cls, columns: Columns, names: Sequence[str], *, model: str, trigger: str, threshold: float) -> Encoding:
        """The encoding of training vectors: a column of uint64 is a category (0 = null), any other a number."""
        features = tuple(Feature(name, _codes(np.asarray(columns[name]))) for name in names)
        return cls(model, trigger, threshold, features)

    @cached_property
    def names(self) -> list[str]:
        """The features' names, in the matrix's order."""
        return [feature.name for feature in self.features]

    @property
    def feature_types(self) -> list[str]:
        """What xgboost calls each column: `q` a quantity, `c` a category's code."""
        return ["q" if feature.codes is None else "c" for feature in self.features]

    def matrix(self, columns: Columns) -> F32:
        """float32[n, features], C order, NaN where missing: so is a feature that the vectors do not have (any more)."""
        known = columns.dtype.names or () if isinstance(columns, np.ndarray) else columns.keys()
        there = [(place, feature) for place, feature in enumerate(self.features) if feature.name in known]
        out = np.full((_rows(columns), len(self.features)), np.nan, np.float32)
        for place, feature in there:
            out[:, place] = feature.encode(columns[feature.name])
        return out

    def to_json(self) -> bytes:
        """Canonical bytes."""
        return canonical(
            {
                "model": self.model,
                "trigger": self.trigger,
                "threshold": self.threshold,
                "features": [_feature_json(feature) for feature in self.features],
            }
        )

    @classmethod
    def from_json(cls, data: bytes) -> Encoding:
        """The encoding of `to_json`; Rejected `bad-artifact` where it is none."""
        try:
            found = json.loads(data)
            features = tuple(_feature(row) for row in found["features"])
            encoding = cls(str(found["model"]), str(found["trigger"]), float(found["threshold"]), features)
        except (ValueError, KeyError, TypeError) as error:
            raise Rejected("bad-artifact", f"encoding.json: {error!r}") from error
        if not features:
            raise Rejected("bad-artifact", "encoding.json names no feature")
        return encoding


def _rows(columns: Columns) -> int:
    return len(columns if isinstance(columns, np.ndarray) else next(iter(columns.values())))


def canonical(value: Any) -> bytes:
    """JSON that is the same for the same value: keys in order, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def hex_of(hashes: npt.NDArray[np.uint64]) -> list[str]:
    """Each hash as 16 hexadecimal digits."""
    return [f"{number:016x}" for number in hashes.tolist()]


def hashes_of(texts: Sequence[str]) -> npt.NDArray[np.uint64]:
    """The hashes of `hex_of`; raises ValueError."""
    return np.array([int(text, 16) for text in texts], np.uint64)


def _codes(column: npt.NDArray[Any]) -> npt.NDArray[np.uint64] | None:
    if column.dtype != np.uint64:
        return None
    return np.setdiff1d(column, np.zeros(1, np.uint64))


def _feature_json(feature: Feature) -> dict[str, Any]:
    codes = {} if feature.codes is None else {"codes": hex_of(feature.codes)}
    return {"name": feature.name, "kind": feature.kind} | codes


def _feature(row: dict[str, Any]) -> Feature:
    codes = hashes_of(row["codes"]) if row["kind"] == "category" else None
    if codes is not None and np.any(codes[1:] <= codes[:-1]):
        raise ValueError(f"the codes of {row['name']} are not ascending")
    return Feature(str(row["name"]), codes)
