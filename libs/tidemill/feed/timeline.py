"""A use case's history as one timeline: every source's rows in known-time order, encoded as the raw topics want them."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastavro
import numpy as np
import numpy.typing as npt
import pandas as pd
from fastavro.validation import ValidationError, validate

from tidemill.errors import Refused
from tidemill.feed.gate import FOREVER

if TYPE_CHECKING:
    from tidemill.spec import Bundle

Micros = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Lane:
    """One source's history, ordered by known time (microseconds), ties in the order of the id."""

    source: str
    known: Micros
    rows: pd.DataFrame
    schema: Any
    id_column: str
    framing: bytes

    def records(self, begin: int, end: int) -> Iterator[tuple[bytes, bytes]]:
        """(key, framed value) of each row with `begin` <= known < `end`. Raises Refused at one that its schema cannot hold."""
        first, last = np.searchsorted(self.known, [begin, end])
        columns = list(self.rows.columns)
        for values in zip(*(self.rows[name].iloc[first:last].tolist() for name in columns), strict=True):
            row = dict(zip(columns, values, strict=True))
            yield str(row[self.id_column]).encode(errors="replace"), self.framing + self._datum(row)

    def _datum(self, row: dict[str, Any]) -> bytes:
        try:
            return datum(self.schema, row)
        except (TypeError, ValueError, OverflowError) as error:
            message = f"feed.py gives {self.source} a row {row[self.id_column]!r} that its schema cannot hold: {_misfit(self.schema, row, error)}"
            raise Refused("feed-misfit", f"{message}; mend it and feed again, which goes on where this has stopped") from error

    def reach(self, begin: int, many: int) -> int:
        """The time before which at most `many` rows are known from `begin` on; later where more share one microsecond."""
        at = int(np.searchsorted(self.known, begin)) + many
        return max(int(self.known[at]), begin + 1) if at < len(self.known) else FOREVER

    def count(self, end: int) -> int:
        """How many rows are known before `end`."""
        return int(np.searchsorted(self.known, end))


@dataclass(frozen=True)
class Timeline:
    """All sources' lanes, in the spec's tie order."""

    lanes: tuple[Lane, ...]

    @property
    def first(self) -> int:
        """Known time of the very first event."""
        return min(int(lane.known[0]) for lane in self.lanes if len(lane.known))

    @property
    def end(self) -> int:
        """The first microsecond after the very last event."""
        return max(int(lane.known[-1]) for lane in self.lanes if len(lane.known)) + 1


def load(folder: Path, bundle: Bundle, framings: Mapping[str, bytes]) -> Timeline:
    """The history that `<folder>/feed.py` tells; `framings` is each source's 5-byte Confluent prefix.

    Raises Refused when the feed lacks a source or a column that the schema demands, or has no rows at all.
    """
    frames, names = module_of(folder).sources(), bundle.stream.order
    given = [name for name in names if isinstance(frames, Mapping) and isinstance(frames.get(name), pd.DataFrame)]
    if missing := [name for name in names if name not in given]:
        raise _incomplete(
            folder, f"gives no frame for {', '.join(missing)}: return a dict of a pandas DataFrame by each source's name"
        )
    if all(frames[name].empty for name in names):
        raise _incomplete(folder, "gives frames without rows: at least one source needs events")
    return Timeline(tuple(_lane(folder, name, frames[name], bundle, framings[name]) for name in names))


def module_of(folder: Path) -> Any:
    """A use case's `feed.py`; Refused where there is none with sources(), or none that Python takes."""
    file = folder / "feed.py"
    spec = importlib.util.spec_from_file_location(f"tidemill_feed_{file.parent.name}", file)
    if not file.exists() or spec is None or spec.loader is None:
        raise Refused("no-feed", f"{file} is not there; a use case that can be replayed has a feed.py with sources()")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise Refused("no-feed", f"{error.filename}:{error.lineno}: no Python: {error.msg}; mend that line") from error
    except ImportError as error:
        raise Refused("no-feed", f"{file}: {error}; install what it imports beside tidemill") from error
    if not callable(getattr(module, "sources", None)):
        raise Refused("no-feed", f"{file} has no sources(); write one that returns a pandas DataFrame by each source's name")
    return module


def _incomplete(folder: Path, message: str) -> Refused:
    return Refused("feed-incomplete", f"{folder / 'feed.py'}: sources() {message}")


def _lane(folder: Path, name: str, frame: pd.DataFrame, bundle: Bundle, framing: bytes) -> Lane:
    source, schema = bundle.stream.sources[name], bundle.schemas[name]
    columns = [field["name"] for field in schema["fields"]]
    absent = [column for column in columns if column not in frame]
    if absent:
        raise _incomplete(folder, f"gives a frame for {name} that lacks {', '.join(absent)}: add what the schema names")
    at, later = (source.known_at, 0) if isinstance(source.known_at, str) else (source.time, source.known_at or 0)
    try:
        known = frame[at].to_numpy(np.int64) + later
    except (TypeError, ValueError) as error:
        raise _incomplete(folder, f"gives a frame for {name} whose {at} is no time: {error}; give int64 microseconds") from error
    order = np.lexsort((frame[source.id].to_numpy(str), known))
    rows = _nulls(frame[columns].iloc[order].reset_index(drop=True))
    return Lane(name, known[order], rows, parsed(schema), source.id, framing)


def _nulls(rows: pd.DataFrame) -> pd.DataFrame:
    """Missing values as None, which is what an Avro union with null wants."""
    lacking = rows.columns[rows.isna().any()]
    return rows.assign(**{name: rows[name].astype(object).where(rows[name].notna(), None) for name in lacking})


def parsed(schema: dict[str, Any]) -> Any:
    """A schema as `datum` wants it."""
    return fastavro.parse_schema(schema, named_schemas={})


def _misfit(schema: Any, row: dict[str, Any], error: Exception) -> str:
    """The fields that do not fit; else what the encoder said."""
    try:
        validate(row, schema, raise_errors=True)
    except ValidationError as found:
        return "; ".join(str(one) for one in found.errors)
    return str(error)


def datum(schema: Any, row: dict[str, Any]) -> bytes:
    """A row's Avro bytes."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, row)
    return out.getvalue()
