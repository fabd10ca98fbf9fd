"""The fold: batches of the log in, rows for `features.<stream>` out. Pure; the size of a batch changes no bit."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import fastavro
import numpy as np
import numpy.typing as npt

from services.feature_store.columns import I8, Events, read
from services.feature_store.model import State
from services.feature_store.rows import Output
from tidemill.bus.fold import Batch, Rows
from tidemill.events import log_header, wire
from tidemill.events.columnar import Decoder
from tidemill.events.identity import hash64_many
from tidemill.events.log import Progressed, SpecAdopted
from tidemill.features import labels
from tidemill.features.plan import LabelPlan, Plan, TriggerPlan, compile_text
from tidemill.features.tables import Table

_SPEC = fastavro.parse_schema(SpecAdopted.SCHEMA, named_schemas={})
_PROGRESSED = fastavro.parse_schema(Progressed.SCHEMA, named_schemas={})
F8 = npt.NDArray[np.float64]


def step(state: State, batch: Batch, decoders: Mapping[int, Decoder]) -> tuple[State, list[Rows]]:
    """Fold one batch: a stretch between two specs at a time."""
    heads = batch.log
    assert heads is not None
    out = Output(state.stream, batch, state.seq)
    begin = 0
    for at in np.flatnonzero(heads["kind"] == log_header.SPEC_ADOPTED).tolist():
        _stretch(state, batch, begin, at, decoders, out)
        content = str(_record(_SPEC, batch.values[at])["content"])
        state.adopt(compile_text(content), content)
        begin = at
    _stretch(state, batch, begin, len(batch), decoders, out)
    rows = out.rows()
    state.seq += len(rows)
    return state, [rows] if len(rows) else []


def _stretch(state: State, batch: Batch, begin: int, end: int, decoders: Mapping[int, Decoder], out: Output) -> None:
    """Fold records `begin`..`end` of the batch under one spec."""
    heads = batch.log
    assert heads is not None
    if begin == end:
        return
    kinds = heads["kind"][begin:end]
    copied = np.flatnonzero((kinds != log_header.EVENT) & (kinds != log_header.BARRIER)) + begin
    out.copies(copied)
    events = np.flatnonzero(kinds == log_header.EVENT) + begin
    if state.plan is None:
        out.failed(events, "no_spec", {})
        return
    sources = _sources(state.plan, batch, events, decoders, out)
    _vectors(state, state.plan, batch, sources, out)
    stretch = np.arange(begin, end)
    for join in state.joins:
        found = join.fold(_label_events(join.plan, state.plan, batch, stretch, sources))
        out.joined(found, begin, join.plan, state.plan.bundle.ids)


def _sources(plan: Plan, batch: Batch, events: I8, decoders: Mapping[int, Decoder], out: Output) -> dict[str, Events]:
    """The events by source; a trigger that cannot be decoded is said as failed."""
    heads = batch.log
    assert heads is not None
    numbers = heads["source"][events]
    found: dict[str, Events] = {}
    for number in np.unique(numbers).tolist():
        source, index = plan.bundle.stream.order[number], events[numbers == number]
        ids = wire.schema_ids([batch.values[i] for i in index.tolist()])
        found[source], bad = read(batch.values, index, ids, decoders, plan.columns[source])
        if bad and plan.trigger_of(source):
            out.failed(np.array(sorted(bad), np.int64), "undecodable", plan.bundle.ids)
    return found


def _vectors(state: State, plan: Plan, batch: Batch, sources: Mapping[str, Events], out: Output) -> None:
    """Fold every table, and say the vectors of all triggers."""
    vectors = {
        trigger.name: _begin(state.code, plan, trigger, batch, sources[trigger.source])
        for trigger in plan.triggers
        if trigger.source in sources
    }
    for number, table in enumerate(state.tables):
        readers = [trigger for trigger in plan.triggers if number in trigger.tables and trigger.name in vectors]
        _fold_table(plan, table, readers, sources, vectors, batch)
    for trigger in plan.triggers:
        if trigger.name in vectors:
            out.vectors(sources[trigger.source].index, vectors[trigger.name], trigger)


def _begin(code: int, plan: Plan, trigger: TriggerPlan, batch: Batch, events: Events) -> npt.NDArray[np.void]:
    """A trigger's vectors with everything but the windows, which are missing so far."""
    heads = batch.log
    assert heads is not None
    rows = np.zeros(len(events), trigger.dtype)
    head, known = heads[events.index], plan.columns[trigger.source]
    rows["frame"] = np.void(wire.frame(trigger.schema_id, b""))
    rows["position"], rows["stream_time"], rows["known_time"] = batch.offsets[events.index], head["stream"], head["known"]
    rows["event_time"] = events.instants(plan.bundle.stream.sources[trigger.source].time)
    rows["id_hash"] = hash64_many([batch.keys[i] for i in events.index.tolist()])
    rows["spec"], rows["code"] = plan.bundle.mark, code
    for name in trigger.event:
        rows[f"event__{name}"] = events.hashes(name) if known[name].kind == "text" else events.numbers(name)
    for number in trigger.tables:
        for name in plan.tables[number].names:
            rows[name] = np.nan
    return rows


def _fold_table(
    plan: Plan,
    table: Table,
    readers: list[TriggerPlan],
    sources: Mapping[str, Events],
    vectors: dict[str, npt.NDArray[np.void]],
    batch: Batch,
) -> None:
    """Fold one table over the events that read it or add to it, in log order."""
    spec, adding, heads = table.plan, table.plan.source, batch.log
    assert heads is not None
    taking = list(dict.fromkeys([*([adding] if adding in sources else []), *(trigger.source for trigger in readers)]))
    if not taking:
        return
    index = np.concatenate([sources[source].index for source in taking])
    order = np.argsort(index, kind="stable") if len(taking) > 1 else slice(None)
    reading = {trigger.source for trigger in readers}

    def gathered(parts: list[Any]) -> Any:
        return np.concatenate(parts)[order] if len(parts) > 1 else parts[0]

    folded, late = table.fold(
        gathered([sources[source].key(spec.entity) for source in taking]),
        gathered([sources[source].instants(plan.bundle.stream.sources[source].time) for source in taking]),
        gathered([heads["stream"][sources[source].index] for source in taking]),
        gathered([np.full(len(sources[source]), source in reading) for source in taking]),
        gathered([_adds(spec.where, sources[source], source == adding) for source in taking]),
        gathered([_values(table, sources[source], source == adding) for source in taking]),
    )
    for trigger in readers:
        rows, mine = vectors[trigger.name], _places(order, taking, sources, trigger.source)
        rows["late"] |= late[mine]
        for column, name in enumerate(spec.names):
            rows[name] = folded[mine, column]


def _places(order: I8 | slice, taking: list[str], sources: Mapping[str, Events], source: str) -> I8:
    """Where a source's events stand among all that were folded."""
    begin = sum(len(sources[name]) for name in taking[: taking.index(source)])
    mine = np.arange(begin, begin + len(sources[source]))
    return mine if isinstance(order, slice) else np.argsort(order, kind="stable")[mine]


def _adds(where: object, events: Events, adding: bool) -> npt.NDArray[np.bool_]:
    return events.holds(where) if adding else np.zeros(len(events), np.bool_)  # type: ignore[arg-type]


def _values(table: Table, events: Events, adding: bool) -> F8:
    values = np.full((len(events), max(1, len(table.plan.values))), np.nan)
    if adding:
        for number, expression in enumerate(table.plan.values):
            values[:, number] = events.value(expression)
    return values


def _label_events(label: LabelPlan, plan: Plan, batch: Batch, stretch: I8, sources: Mapping[str, Events]) -> npt.NDArray[np.void]:
    """Every record of a stretch as one model's label join sees it."""
    heads = batch.log
    assert heads is not None
    head, begin = heads[stretch], int(stretch[0])
    rows = np.zeros(len(stretch), labels.EVENTS)
    rows["known"], rows["stream"], rows["position"] = head["known"], head["stream"], batch.offsets[stretch]
    rows["label"] = np.nan
    for source, kind in ((label.trigger_source, labels.TRIGGER), (label.source, labels.LABEL)):
        events = sources.get(source)
        if events is None:
            continue
        place = events.index - begin
        rows["kind"][place], rows["key"][place] = kind, events.hashes(label.match)
        rows["time"][place] = events.instants(plan.bundle.stream.sources[source].time)
        if kind == labels.TRIGGER:
            rows["id_hash"][place] = hash64_many([batch.keys[i] for i in events.index.tolist()])
        else:
            rows["label"][place] = events.value(label.value)
    for at in np.flatnonzero(head["kind"] == log_header.PROGRESSED).tolist():
        if _record(_PROGRESSED, batch.values[begin + at])["ended"]:
            rows["kind"][at] = labels.ENDED
    return rows


def _record(schema: object, value: bytes) -> dict[str, object]:
    return fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None)  # type: ignore[arg-type,return-value]
