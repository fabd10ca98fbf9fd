"""A run's rows (R13): triggers old enough for their label to have come, whose label was known before the cause."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from services.training.errors import RunFailed
from services.training.fit.past import Past, Rows
from tidemill.code import marked
from tidemill.events.features import Unlabelled
from tidemill.events.identity import hash64
from tidemill.events.training import RunRequested
from tidemill.spec import Bundle
from tidemill.spec.checks import feature_names

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

TOO_YOUNG = "too-young"
"""Younger than the model's maturity: of such triggers only the quick labels are known, which would bias the rows."""
PENDING = "pending"
OTHER_SPEC = "other-spec"
"""Made under another spec than the newest (R14)."""
OTHER_CODE = "other-code"
"""Made by other code of the feature store than the newest vector (R14): one dataset never mixes what two programs computed."""
OUT_OF_RANGE = "out-of-range"
"""Older than `training.rows` asks for."""


@dataclass(frozen=True)
class Dataset:
    """Rows in the order of event time, then of the log."""

    columns: dict[str, npt.NDArray[np.generic]]
    """Feature -> float64 (NaN: missing) or uint64 (hash; 0: missing)."""
    beside: dict[str, npt.NDArray[np.generic]]
    """What the champion reads and the spec's features lack, as far as the vectors have it; neither trained on nor in the file."""
    times: I64
    """Event time, us."""
    labels: F64
    """0 or 1."""
    positions: I64
    left_out: dict[str, int]
    """Triggers before the cause that are no row, by reason."""
    fold_code: str
    """The beginning of the digest of the feature store's code that made all rows."""
    from_position: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def positives(self) -> int:
        """Rows whose label is 1."""
        return int(np.count_nonzero(self.labels > 0.5))

    def take(self, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.generic]]:
        """The features of some rows."""
        return {name: column[rows] for name, column in self.columns.items()}

    def take_all(self, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.generic]]:
        """The features of some rows, and what stands beside them."""
        return self.take(rows) | {name: column[rows] for name, column in self.beside.items()}

    def to_parquet(self) -> bytes:
        """The rows as one file, the same bytes for the same rows."""
        frame = pl.DataFrame({"position": self.positions, "event_time": self.times, "label": self.labels == 1, **self.columns})
        out = io.BytesIO()
        frame.write_parquet(out, compression="lz4", statistics=False, row_group_size=100_000)
        return out.getvalue()


def build(past: Sequence[Past], bundle: Bundle, request: RunRequested, champion: Sequence[str] = ()) -> Dataset:
    """The rows of a run; `champion`: the features that the champion reads. Raises RunFailed where there is no row."""
    left: Counter[str] = Counter()
    code = _newest_code(past, bundle)
    parts = [part for one in past for part in _parts(one, bundle, code, request, left)]
    if not parts:
        raise RunFailed("no-rows", f"no trigger before position {request.position} has a label and is old enough: {dict(left)}")
    rows, labels = [rows for rows, _ in parts], np.concatenate([labels for _, labels in parts])
    names = feature_names(bundle, bundle.models[request.model])
    times, positions = (_column(rows, name).astype(np.int64) for name in ("event_time", "position"))
    order = np.lexsort((positions, times))
    columns = {name: _column(rows, name)[order] for name in names}
    beside = {name: _column(rows, name)[order] for name in champion if name not in columns and _held(rows, name)}
    first = min(int(one["position"][0]) for one in rows)
    return Dataset(columns, beside, times[order], labels[order], positions[order], dict(left), marked(int(code)), first)


def _newest_code(past: Sequence[Past], bundle: Bundle) -> np.uint64:
    """The mark of the code that made the newest vector under the newest spec."""
    mine = [rows[rows["spec"] == np.uint64(bundle.mark)] for one in past for rows in one.vectors]
    newest = [rows[-1] for rows in mine if len(rows)]
    return max(newest, key=lambda row: int(row["stream_time"]))["code"] if newest else np.uint64(0)


def _parts(past: Past, bundle: Bundle, code: np.uint64, request: RunRequested, left: Counter[str]) -> list[tuple[Rows, F64]]:
    """Of one partition: chosen vectors with their labels, per schema id."""
    model = bundle.models[request.model]
    mine = np.uint64(hash64(request.model.encode()))
    outcomes, unlabelled = (rows[rows["model"] == mine] for rows in (past.outcomes, past.unlabelled))
    oldest = -np.inf if model.training.rows == "all" else request.at_time - model.training.rows.last
    parts = []
    for vectors in past.vectors:
        _count(left, OTHER_SPEC, vectors["spec"] != np.uint64(bundle.mark))
        vectors = vectors[vectors["spec"] == np.uint64(bundle.mark)]
        _count(left, OTHER_CODE, vectors["code"] != code)
        vectors = vectors[vectors["code"] == code]
        _count(left, OUT_OF_RANGE, vectors["event_time"] < oldest)
        vectors = vectors[vectors["event_time"] >= oldest]
        _count(left, TOO_YOUNG, vectors["event_time"] > request.at_time - model.maturity)
        vectors = vectors[vectors["event_time"] <= request.at_time - model.maturity]
        labels = _labels(vectors, outcomes)
        _unlabelled(left, vectors[np.isnan(labels)], unlabelled)
        if not np.isnan(labels).all():
            parts.append((vectors[~np.isnan(labels)], labels[~np.isnan(labels)]))
    return parts


def _labels(vectors: Rows, outcomes: Rows) -> F64:
    """Each vector's label, NaN where it has none. Vectors stand in the order of positions."""
    found = np.full(len(vectors), np.nan)
    if len(vectors) and len(outcomes):
        positions = vectors["position"]
        places = np.minimum(np.searchsorted(positions, outcomes["trigger_position"]), len(vectors) - 1)
        hit = positions[places] == outcomes["trigger_position"]
        found[places[hit]] = outcomes["label"][hit]
    return found


def _unlabelled(left: Counter[str], vectors: Rows, unlabelled: Rows) -> None:
    symbols = next(f["type"]["symbols"] for f in Unlabelled.SCHEMA["fields"] if f["name"] == "reason")
    known = unlabelled[np.isin(unlabelled["trigger_position"], vectors["position"])]
    for place, symbol in enumerate(symbols):
        _count(left, symbol.replace("_", "-"), known["reason"] == 2 * place)
    left[PENDING] += len(vectors) - len(known)
    left += Counter()  # drop what is 0


def _count(left: Counter[str], reason: str, rows: npt.NDArray[np.bool_]) -> None:
    if number := int(np.count_nonzero(rows)):
        left[reason] += number


def _held(parts: Sequence[Rows], name: str) -> bool:
    return all(name in (part.dtype.names or ()) for part in parts)


def _column(parts: Sequence[Rows], name: str) -> npt.NDArray[np.generic]:
    return np.concatenate([np.ascontiguousarray(part[name]) for part in parts])
