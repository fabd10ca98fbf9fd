"""The columns of decoded datums, each made when it is asked for: of the walk's cells where it has kept them, else of a frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from tidemill.events.blobs import U1, Blobs
from tidemill.events.identity import U64, hash64_column, hash64_many
from tidemill.events.plain import value_of
from tidemill.events.walk import Cells, kept

I8 = npt.NDArray[np.int64]
F8 = npt.NDArray[np.float64]

TICKS: Final[dict[str, Callable[[Any], Any]]] = {
    "timestamp-millis": lambda column: column * 1000,
    "local-timestamp-millis": lambda column: column * 1000,
    "timestamp-nanos": lambda column: column // 1000,
    "local-timestamp-nanos": lambda column: column // 1000,
}
"""Instants to us, where they are not; of an array as of a polars column."""


@dataclass(frozen=True)
class Field:
    """A field that the walk keeps."""

    row: int
    """Of the cells."""
    kind: str
    """Its type: one of `walk.KEPT`."""
    ticks: str
    symbols: tuple[str, ...]

    def values(self, cells: Cells) -> npt.NDArray[Any]:
        """Each value in its own type, instants in us; anything where there is none. Not of texts and enums."""
        found: I8 = cells.values[self.row]
        if self.kind == "double":
            return found.view(np.float64)
        if self.kind == "float":
            return found.astype(np.uint32).view(np.float32)
        if self.kind in ("boolean", "int"):
            return found.astype(np.bool_ if self.kind == "boolean" else np.int32)
        return np.asarray(TICKS[self.ticks](found)) if self.ticks in TICKS else found

    def null(self, cells: Cells) -> npt.NDArray[np.bool_]:
        """Which have no value."""
        widths: I8 = cells.widths[self.row]
        return widths < 0


def fields_of(schema: dict[str, Any]) -> dict[str, Field]:
    """The fields that the walk keeps of a record whose named types are all spelled out."""
    declared = {field["name"]: field for field in schema["fields"]}
    symbols = {name: tuple(value_of(declared[name]["type"])["symbols"]) for name, kind in kept(schema).items() if kind == "enum"}
    return {
        name: Field(row, kind, declared[name].get("ticks", ""), symbols.get(name, ()))
        for row, (name, kind) in enumerate(kept(schema).items())
    }


@dataclass
class Decoded:
    """What became of a batch; n datums were good."""

    bad: list[tuple[int, str]]
    """Index in the batch and reason."""
    good: I8
    """int64[n]: each row's index in the batch."""
    fields: Mapping[str, Field]
    """Those that the cells have."""
    data: U1
    """Where the cells' texts stand."""
    cells: Cells
    decode: Callable[[], pl.DataFrame]
    """Makes the frame."""

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Decoded:
        """Columns that are there already."""
        return cls([], np.arange(len(frame)), {}, np.zeros(0, np.uint8), Cells.blank(0, 0), lambda: frame)

    @cached_property
    def frame(self) -> pl.DataFrame:
        """One row per good datum, columns in the schema's order; instants as Int64 us, enums as String."""
        return self.decode()

    def series(self, name: str) -> pl.Series:
        """A column of the frame; where the cells have it as a number, it alone is made."""
        field = self.fields.get(name)
        if field is None or field.kind in ("string", "enum"):
            return self.frame[name]
        series = pl.Series(name, field.values(self.cells))
        null = np.flatnonzero(field.null(self.cells))
        return series.scatter(null, None) if len(null) else series

    def instants(self, name: str) -> I8:
        """A column of times that are never null, int64[n], us."""
        if field := self.fields.get(name):
            return field.values(self.cells).astype(np.int64, copy=False)
        return self.frame[name].to_numpy().astype(np.int64, copy=False)

    def numbers(self, name: str) -> F8:
        """A column as doubles, float64[n]: booleans 0 and 1, null NaN."""
        field = self.fields.get(name)
        if field is None:
            return doubles(self.frame[name])
        found, null = field.values(self.cells).astype(np.float64, copy=False), field.null(self.cells)
        return np.where(null, np.nan, found) if null.any() else found

    def hashes(self, name: str) -> U64:
        """A column's values as hashes, uint64[n]: of their text, null 0."""
        field = self.fields.get(name)
        if field is None or field.kind not in ("string", "enum"):
            return hash64_column(self.series(name))
        if field.kind == "string":
            return hash64_many(Blobs(self.data, self.cells.values[field.row], self.cells.widths[field.row]))
        symbols = hash64_many(Blobs.of_texts(field.symbols))
        return np.where(field.null(self.cells), np.uint64(0), symbols[self.cells.values[field.row]])


def doubles(column: pl.Series) -> F8:
    """A null becomes NaN: of numbers by the conversion itself, of booleans by way of a number."""
    if column.dtype == pl.Boolean:
        column = column.cast(pl.Float64)
    return column.to_numpy().astype(np.float64, copy=False)
