"""A batch's events by source, as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from tidemill.events.columnar import PRIMITIVES, Decoder
from tidemill.events.identity import hash64_column, hash64_compound, hash64_many
from tidemill.spec.columns import Column
from tidemill.spec.expressions import Expression

I8 = npt.NDArray[np.int64]
F8 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint64]
Value = TypeVar("Value", bound=np.generic)


@dataclass
class Events:
    """One source's events of a batch that could be decoded, in log order; `index` is each one's place in the batch.

    Whole columns are taken out of the frame: a polars expression costs a small batch more than all the rest of the step.
    """

    index: I8
    frame: pl.DataFrame
    _instants: dict[str, I8] = field(default_factory=dict)
    _values: dict[str, F8] = field(default_factory=dict)
    _hashes: dict[str, U8] = field(default_factory=dict)
    _ids: U8 | None = None

    def __len__(self) -> int:
        return len(self.index)

    def instants(self, name: str) -> I8:
        """A column of times, us."""
        found = self._instants.get(name)
        if found is None:
            found = self._instants[name] = self.frame[name].to_numpy().astype(np.int64, copy=False)
        return found

    def numbers(self, name: str) -> F8:
        """A column as doubles: booleans 0 and 1, null NaN."""
        found = self._values.get(name)
        if found is None:
            found = self._values[name] = _doubles(self.frame[name])
        return found

    def value(self, expression: Expression) -> F8:
        """An expression's value per event, as `numbers`."""
        if expression.text in self.frame.columns:
            return self.numbers(expression.text)
        found = self._values.get(expression.text)
        if found is None:
            found = self._values[expression.text] = _doubles(self.frame.select(expression.polars.alias("x"))["x"])
        return found

    def holds(self, expression: Expression | None) -> npt.NDArray[np.bool_]:
        """Whether a condition is true per event; no condition always is."""
        return np.ones(len(self), np.bool_) if expression is None else self.value(expression) == 1.0

    def hashes(self, name: str) -> U8:
        """A column's values as hashes; null is 0."""
        found = self._hashes.get(name)
        if found is None:
            column = self.frame[name]
            found = self._hashes[name] = hash64_many(column.to_list()) if column.dtype == pl.String else hash64_column(column)
        return found

    def ids(self, keys: Sequence[bytes | None]) -> U8:
        """The hashes of their ids, which are the batch's `keys`."""
        if self._ids is None:
            self._ids = hash64_many([keys[at] for at in self.index.tolist()])
        return self._ids

    def key(self, names: Sequence[str]) -> U8:
        """The key of an entity; 0 where any part of it is null."""
        if len(names) == 1:
            return self.hashes(names[0])
        parts = [self.hashes(name) for name in names]
        return np.where(np.all([part != 0 for part in parts], axis=0), hash64_compound(parts), np.uint64(0))


class Merged:
    """The events of several sources together, in log order."""

    def __init__(self, sources: Mapping[str, Events], times: Mapping[str, str], stream: I8) -> None:
        """`times`: each source's column of event time; `stream`: the stream time of every record of the batch."""
        self.sources = sources
        index = np.concatenate([events.index for events in sources.values()])
        order = np.argsort(index, kind="stable")  # each source's are in order: it merges
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        ends = np.cumsum([len(events) for events in sources.values()])
        self.places: dict[str, I8] = dict(zip(sources, np.split(places, ends[:-1]), strict=True))
        """Where each source's events stand among all."""
        self.stream = stream[index[order]]
        self.time = self.column(np.int64(0), {name: events.instants(times[name]) for name, events in sources.items()})

    def __len__(self) -> int:
        return len(self.stream)

    def column(self, blank: Value, parts: Mapping[str, npt.NDArray[Value]]) -> npt.NDArray[Value]:
        """One value per event: what `parts` have for the events of a source, `blank` for those of the others."""
        column = np.full(len(self), blank, blank.dtype)
        for name, part in parts.items():
            column[self.places[name]] = part
        return column


def read(
    values: Sequence[bytes], index: I8, ids: I8, decoders: Mapping[int, Decoder], known: Mapping[str, Column]
) -> tuple[Events, list[int]]:
    """The events at `index` of `values`, written by schemas `ids`, with the columns of `known`; and those that cannot be decoded."""
    frames, places, bad = [], [], []
    for schema_id in np.unique(ids).tolist():
        chosen = index[ids == schema_id]
        decoder = decoders.get(schema_id)
        if decoder is None:
            bad += chosen.tolist()
            continue
        decoded = decoder.decode([values[i] for i in chosen.tolist()])
        bad += [int(chosen[i]) for i, _ in decoded.bad]
        frames.append(_with_columns(decoded.frame, known))
        places.append(chosen[decoded.good])
    if len(frames) == 1:
        return Events(places[0], frames[0]), bad
    if not frames:
        return Events(
            np.zeros(0, np.int64),
            pl.DataFrame(schema=_dtypes(known)),
        ), bad
    together = np.concatenate(places)
    order = np.argsort(together, kind="stable")
    return Events(together[order], pl.concat(frames)[order]), bad


def _with_columns(frame: pl.DataFrame, known: Mapping[str, Column]) -> pl.DataFrame:
    """The spec's columns in its order and types, whatever the writer's schema has; one that it does not have has its default.

    The types are the spec's since a number's hash is its text: 42 written as a double must not become another entity.
    """
    wanted = _dtypes(known)
    if frame.schema == wanted:
        return frame
    there = set(frame.columns)
    return frame.select(
        pl.col(name).cast(dtype, strict=False) if name in there else pl.lit(known[name].default, dtype).alias(name)
        for name, dtype in wanted.items()
    )


def _dtypes(known: Mapping[str, Column]) -> pl.Schema:
    return pl.Schema({name: PRIMITIVES[column.avro] for name, column in known.items() if column.kind != "other"})


def _doubles(column: pl.Series) -> F8:
    """A null becomes NaN: of numbers by the conversion itself, of booleans by way of a number."""
    if column.dtype == pl.Boolean:
        column = column.cast(pl.Float64)
    return column.to_numpy().astype(np.float64, copy=False)
