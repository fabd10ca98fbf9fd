"""From a bundle to what the fold needs: tables, trigger vectors, label joins. Compiled once per spec."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from tidemill.events.fixed import dtype_of
from tidemill.events.identity import hash64
from tidemill.features import kernels
from tidemill.features.kernels import Layout
from tidemill.features.vector import event_columns, vector_schema, windows
from tidemill.spec import Bundle
from tidemill.spec.columns import Column
from tidemill.spec.expressions import Expression
from tidemill.spec.expressions import compile as expression
from tidemill.spec.model import ModelSpec
from tidemill.spec.stream import FeatureSpec, ViewSpec
from tidemill.spec.values import format_duration
from tidemill.spec.windows import slide

I8 = npt.NDArray[np.int64]

_AGGREGATES = {
    "count": (kernels.AGG_COUNT, kernels.COUNT),
    "sum": (kernels.AGG_SUM, kernels.SUM),
    "mean": (kernels.AGG_MEAN, kernels.SUM),
    "min": (kernels.AGG_MIN, kernels.MIN),
    "max": (kernels.AGG_MAX, kernels.MAX),
    "last": (kernels.AGG_LAST, kernels.LAST),
    "std": (kernels.AGG_STD, kernels.MOMENTS),
}
"""Aggregation -> (how a window is read, which statistic it needs)."""


@dataclass(frozen=True)
class TablePlan:
    """One view at one slide. `identity` is equal for tables whose state is interchangeable."""

    view: str
    source: str
    time: str
    """The source's column of event time."""
    entity: tuple[str, ...]
    where: Expression | None
    values: tuple[Expression, ...]
    names: tuple[str, ...]
    layout: Layout

    @cached_property
    def identity(self) -> tuple[object, ...]:
        """What decides the table's state, and whose it is: two views may need the same and must not share it."""
        where = self.where.text if self.where else None
        values = tuple(value.text for value in self.values)
        return (
            self.view,
            self.source,
            self.time,
            self.entity,
            where,
            values,
            self.layout.slide,
            self.layout.span,
            self.layout.memory,
            tuple(self.layout.kinds),
            tuple(self.layout.sources),
        )


@dataclass(frozen=True)
class TriggerPlan:
    """One trigger's vector: its dtype, its own columns, and the tables (by number) that it reads."""

    name: str
    source: str
    event: tuple[str, ...]
    schema_id: int
    dtype: np.dtype[np.void]
    tables: tuple[int, ...]
    windows: I8
    """Of the vector's last fields, its windows, each one's place among all tables' features (`Plan.starts`)."""


@dataclass(frozen=True)
class LabelPlan:
    """One model's label: which triggers wait, what resolves them, for how long (us, stream time)."""

    model: str
    model_hash: int
    trigger_source: str
    source: str
    times: tuple[str, str]
    """The columns of event time of the trigger and of the label's source."""
    match: str
    value: Expression
    within: int


@dataclass(frozen=True)
class Plan:
    """All of a stream's fold."""

    bundle: Bundle
    tables: tuple[TablePlan, ...]
    triggers: tuple[TriggerPlan, ...]
    labels: tuple[LabelPlan, ...]

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Where each table's features begin among those of all tables, and how many those are."""
        return tuple(accumulate((len(table.names) for table in self.tables), initial=0))

    @cached_property
    def columns(self) -> dict[str, dict[str, Column]]:
        """Each source's columns."""
        return {source: self.bundle.columns(source) for source in self.bundle.stream.sources}

    def trigger_of(self, source: str) -> TriggerPlan | None:
        """The trigger that a source's events are."""
        return next((trigger for trigger in self.triggers if trigger.source == source), None)


@lru_cache(maxsize=16)
def compile_text(content: str) -> Plan:
    """`compile` of a bundle's JSON."""
    return compile(Bundle.from_json(content))


def compile(bundle: Bundle) -> Plan:  # noqa: A001
    """The plan of a checked bundle."""
    tables = tuple(table for name, view in bundle.stream.views.items() for table in _tables(bundle, name, view))
    triggers = tuple(_trigger(bundle, name, tables) for name in bundle.stream.triggers)
    return Plan(bundle, tables, triggers, tuple(_label(bundle, model) for model in bundle.models.values()))


def _tables(bundle: Bundle, name: str, view: ViewSpec) -> list[TablePlan]:
    slides = {slide(window) for feature in view.features.values() for window in feature.over}
    return [_table(bundle, name, view, step) for step in sorted(slides)]


def _table(bundle: Bundle, name: str, view: ViewSpec, step: int) -> TablePlan:
    known = bundle.columns(view.source)
    chosen = [
        (feature_name, feature, window)
        for feature_name, feature in view.features.items()
        for window in feature.over
        if slide(window) == step
    ]
    texts = list(dict.fromkeys(feature.of for _, feature, _ in chosen if feature.of is not None))
    statistics = _statistics([feature for _, feature, _ in chosen], texts)
    late = -(-view.lateness // step)
    chosen.sort(key=itemgetter(2))  # the kernel goes back over the tiles once
    reads = [_read(feature, texts, statistics) for _, feature, _ in chosen]
    return TablePlan(
        view=name,
        source=view.source,
        time=bundle.stream.sources[view.source].time,
        entity=tuple(bundle.stream.entities[view.entity]),
        where=expression(view.where, known) if view.where else None,
        values=tuple(expression(text, known) for text in texts),
        names=tuple(f"{name}__{feature_name}__{format_duration(window)}" for feature_name, _, window in chosen),
        layout=Layout(
            slide=step,
            late=late,
            span=max(window for _, _, window in chosen) // step + late,
            memory=2 * (max(window for feature in view.features.values() for window in feature.over) + view.lateness),
            kinds=_ints([kind for kind, _ in statistics]),
            sources=_ints([value for _, value in statistics]),
            aggs=_ints([agg for agg, _, _ in reads]),
            columns=_ints([column for _, column, _ in reads]),
            counters=_ints([counter for _, _, counter in reads]),
            widths=_ints([window // step for _, _, window in chosen]),
        ),
    )


def _statistics(features: list[FeatureSpec], texts: list[str]) -> list[tuple[int, int]]:
    """(statistic, value) of each column: only what some feature reads. Every value has its count; moments take three columns."""
    wanted: dict[tuple[int, int], None] = {}
    for feature in features:
        if feature.of is None:
            wanted[kernels.ROWS, 0] = None
            continue
        value = texts.index(feature.of)
        wanted[kernels.COUNT, value] = None
        wanted[_AGGREGATES[feature.agg][1], value] = None
    return [column for kind, value in wanted for column in [(kind, value)] * (3 if kind == kernels.MOMENTS else 1)]


def _read(feature: FeatureSpec, texts: list[str], statistics: list[tuple[int, int]]) -> tuple[int, int, int]:
    """(aggregation, its column, the column that counts) of a feature."""
    agg, kind = _AGGREGATES[feature.agg]
    if feature.of is None:
        rows = statistics.index((kernels.ROWS, 0))
        return agg, rows, rows
    value = texts.index(feature.of)
    return agg, statistics.index((kind, value)), statistics.index((kernels.COUNT, value))


def _trigger(bundle: Bundle, name: str, tables: tuple[TablePlan, ...]) -> TriggerPlan:
    source, views = bundle.stream.triggers[name].source, bundle.views_of(name)
    features = [feature for table in tables for feature in table.names]
    return TriggerPlan(
        name=name,
        source=source,
        event=tuple(event_columns(bundle, name)),
        schema_id=bundle.ids.get(f"vector:{name}", 0),
        dtype=dtype_of(vector_schema(bundle, name)),
        tables=tuple(number for number, table in enumerate(tables) if table.view in views),
        windows=_ints([features.index(field) for field in windows(bundle, name)]),
    )


def _label(bundle: Bundle, model: ModelSpec) -> LabelPlan:
    label = model.label
    value = expression(label.value, bundle.columns(label.source))
    source = model.trigger_source(bundle)
    times = bundle.stream.sources[source].time, bundle.stream.sources[label.source].time
    return LabelPlan(model.model, hash64(model.model.encode()), source, label.source, times, label.match, value, label.within)


def _ints(values: list[int]) -> I8:
    return np.array(values, np.int64)
