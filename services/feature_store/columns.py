"""A batch's events by source, as columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from tidemill.events.blobs import Blobs
from tidemill.events.columnar import PRIMITIVES, Decoder
from tidemill.events.decoded import Decoded, doubles
from tidemill.events.identity import hash64_compound, hash64_many
from tidemill.spec.columns import Column
from tidemill.spec.expressions import Expression

I8 = npt.NDArray[np.int64]
F8 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint64]
Array = TypeVar("Array", bound=npt.NDArray[Any])


class Made(dict[tuple[object, ...], Any]):
    """Columns by what they are of, each made when it is first asked for."""

    def once(self, what: tuple[object, ...], make: Callable[[], Array]) -> Array:
        """The column of this name."""
        if what not in self:
            self[what] = make()
        found: Array = self[what]
        return found


@dataclass
class Events:
    """One source's events of a batch that could be decoded, in log order. Every column is made once."""

    index: I8
    """Each one's place in the batch."""
    columns: Decoded
    _made: Made = field(default_factory=Made)

    def __len__(self) -> int:
        return len(self.index)

    def instants(self, name: str) -> I8:
        """A column of times, us."""
        return self._made.once(("instants", name), lambda: self.columns.instants(name))

    def numbers(self, name: str) -> F8:
        """A column as doubles: booleans 0 and 1, null NaN."""
        return self._made.once(("numbers", name), lambda: self.columns.numbers(name))

    def value(self, expression: Expression) -> F8:
        """An expression's value per event, as `numbers`."""
        if expression.text in expression.columns:
            return self.numbers(expression.text)
        return self._made.once(("value", expression.text), lambda: self._evaluated(expression))

    def holds(self, expression: Expression | None) -> npt.NDArray[np.bool_]:
        """Whether a condition is true per event; no condition always is."""
        return np.ones(len(self), np.bool_) if expression is None else self.value(expression) == 1.0

    def hashes(self, name: str) -> U8:
        """A column's values as hashes; null is 0."""
        return self._made.once(("hashes", name), lambda: self.columns.hashes(name))

    def ids(self, keys: Blobs) -> U8:
        """The hashes of their ids, which are the batch's `keys`."""
        return self._made.once(("ids",), lambda: hash64_many(keys.chosen(self.index)))

    def key(self, names: Sequence[str]) -> U8:
        """The key of an entity; 0 where any part of it is null."""
        if len(names) == 1:
            return self.hashes(names[0])
        parts = [self.hashes(name) for name in names]
        return np.where(np.all([part != 0 for part in parts], axis=0), hash64_compound(parts), np.uint64(0))

    def _evaluated(self, expression: Expression) -> F8:
        """By polars, over the columns that it names, where it is not plain."""
        plain = expression.comparison
        if plain is not None and not np.isnan(numbers := self.numbers(plain.column)).any():
            return np.asarray(plain.apply(numbers, plain.number), np.float64)
        frame = pl.DataFrame([self.columns.series(name) for name in sorted(expression.columns)])
        return doubles(frame.select(expression.polars.alias("x"))["x"])


def read(
    values: Blobs, written: Mapping[int, I8], decoders: Mapping[int, Decoder], known: Mapping[str, Column]
) -> tuple[Events, I8]:
    """One source's events, with the columns of `known`, and the places of those that cannot be decoded.

    `written`: the places among `values` of what each schema has written.
    """
    parts, places, bad = list[Decoded](), list[I8](), [np.zeros(0, np.int64)]
    for schema_id, chosen in written.items():
        decoder = decoders.get(schema_id)
        if decoder is None:
            bad.append(chosen)
            continue
        decoded = decoder.decode(values.chosen(chosen))
        bad.append(chosen[[i for i, _ in decoded.bad]])
        parts.append(decoded if _as_known(decoder, known) else Decoded.of(_with_columns(decoded.frame, known)))
        places.append(chosen[decoded.good])
    if len(parts) == 1:
        return Events(places[0], parts[0]), np.sort(np.concatenate(bad))
    together = np.concatenate([np.zeros(0, np.int64), *places])
    order = np.argsort(together, kind="stable")
    frames = [pl.DataFrame(schema=_dtypes(known)), *(part.frame.select(_dtypes(known).names()) for part in parts)]
    return Events(together[order], Decoded.of(pl.concat(frames)[order])), np.sort(np.concatenate(bad))


def _as_known(decoder: Decoder, known: Mapping[str, Column]) -> bool:
    """Whether what is decoded has the spec's columns in its types."""
    fields = decoder.fields
    return all(name in fields and fields[name].kind == column.avro for name, column in known.items() if column.kind != "other")


def _with_columns(frame: pl.DataFrame, known: Mapping[str, Column]) -> pl.DataFrame:
    """The spec's columns in its order and types, whatever the writer's schema has; one that it does not have has its default.

    The types are the spec's since a number's hash is its text: 42 written as a double must not become another entity.
    """
    there = set(frame.columns)
    return frame.select(
        pl.col(name).cast(dtype, strict=False) if name in there else pl.lit(known[name].default, dtype).alias(name)
        for name, dtype in _dtypes(known).items()
    )


def _dtypes(known: Mapping[str, Column]) -> pl.Schema:
    return pl.Schema({name: PRIMITIVES[column.avro] for name, column in known.items() if column.kind != "other"})
