"""What lies between two specs in a batch, as columns of one value per record."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from services.feature_store.columns import F8, I8, U8, Events, Made
from tidemill.bus.fold import Batch
from tidemill.features.plan import Plan
from tidemill.spec.expressions import Expression

Value = TypeVar("Value", bound=np.generic)


class Stretch:
    """Records `begin`..`end` of a batch, and each source's events among them. Tables and joins share the columns: each is made once."""

    def __init__(self, plan: Plan, batch: Batch, begin: int, end: int, sources: Mapping[str, Events]) -> None:
        assert batch.log is not None
        self.batch, self.begin, self.sources = batch, begin, sources
        self.kinds, self.known, self.stream = (batch.log[name][begin:end].copy() for name in ("kind", "known", "stream"))
        self.positions = batch.offsets[begin:end].copy()
        self.places: dict[str, I8] = {name: events.index - begin for name, events in sources.items()}
        """Where a source's events stand among the records."""
        self._times = {name: source.time for name, source in plan.bundle.stream.sources.items()}
        self._made = Made()

    def __len__(self) -> int:
        return len(self.stream)

    @cached_property
    def time(self) -> I8:
        """Event time, us."""
        return self.column(np.int64(0), {name: events.instants(self._times[name]) for name, events in self.sources.items()})

    def column(self, blank: Value, parts: Mapping[str, npt.NDArray[Value] | Value]) -> npt.NDArray[Value]:
        """One value per record: what `parts` have for the events of a source, `blank` for all others."""
        column = np.full(len(self), blank, blank.dtype)
        for name, part in parts.items():
            column[self.places[name]] = part
        return column

    def key(self, entity: tuple[str, ...], names: frozenset[str]) -> U8:
        """The key of an entity in the events of these sources; 0 where there is none."""

        def make() -> U8:
            return self.column(np.uint64(0), {name: self.sources[name].key(entity) for name in sorted(names)})

        return self._made.once(("key", entity, names), make)

    def ids(self, source: str) -> U8:
        """The hashes of a source's events' ids; 0 of all others."""

        def make() -> U8:
            there = {source: self.sources[source].ids(self.batch.keys)} if source in self.sources else {}
            return self.column(np.uint64(0), there)

        return self._made.once(("ids", source), make)

    def rows(self, begins: Mapping[str, int]) -> I8:
        """The numbers of the events of these sources, each source's from its own on; -1 of all others."""

        def make() -> I8:
            return self.column(
                np.int64(-1), {name: np.arange(begin, begin + len(self.places[name])) for name, begin in begins.items()}
            )

        return self._made.once(("rows", tuple(begins.items())), make)

    def holds(self, source: str, where: Expression | None) -> npt.NDArray[np.bool_]:
        """Which records are events of a source that a condition is true of."""

        def make() -> npt.NDArray[np.bool_]:
            there = {source: self.sources[source].holds(where)} if source in self.sources else {}
            return self.column(np.False_, there)

        return self._made.once(("holds", source, where and where.text), make)

    def values(self, source: str, expressions: tuple[Expression, ...]) -> F8:
        """float64[n, expressions]: their values in the events of a source, NaN in all others; of none one column."""

        def make() -> F8:
            values = np.full((len(self), max(1, len(expressions))), np.nan)
            for number, expression in enumerate(expressions if source in self.sources else ()):
                values[self.places[source], number] = self.sources[source].value(expression)
            return values

        return self._made.once(("values", source, tuple(expression.text for expression in expressions)), make)
