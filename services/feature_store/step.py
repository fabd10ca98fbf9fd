"""The fold: batches of the log in, rows for `features.<stream>` out. Pure; the size of a batch changes no bit."""

from __future__ import annotations

import io
from collections.abc import Mapping

import fastavro
import numpy as np
import numpy.typing as npt

from services.feature_store.columns import F8, I8, Events, read
from services.feature_store.model import State
from services.feature_store.rows import Output
from services.feature_store.stretch import Stretch
from tidemill.bus.fold import Batch, Rows
from tidemill.events import log_header, wire
from tidemill.events.columnar import Decoder
from tidemill.events.log import Progressed, SpecAdopted
from tidemill.features import labels
from tidemill.features.plan import LabelPlan, Plan, TriggerPlan, compile_text
from tidemill.features.tables import Table

_SPEC = fastavro.parse_schema(SpecAdopted.SCHEMA, named_schemas={})
_PROGRESSED = fastavro.parse_schema(Progressed.SCHEMA, named_schemas={})
_IDS = np.int64(2**33)
"""More than there are schema ids, -1 (of what has none) among them."""


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
    stretch = Stretch(state.plan, batch, begin, end, _sources(state.plan, batch, events, decoders, out))
    _vectors(state, state.plan, stretch, out)
    for join in state.joins:
        out.joined(join.fold(_label_records(join.plan, stretch)), begin, join.plan, state.plan.bundle.ids)


def _sources(plan: Plan, batch: Batch, events: I8, decoders: Mapping[int, Decoder], out: Output) -> dict[str, Events]:
    """The events by source; a trigger that cannot be decoded is said as failed."""
    heads = batch.log
    assert heads is not None
    kinds = heads["source"][events] * _IDS + batch.schema_ids[events] + 1
    written: dict[str, dict[int, I8]] = {}
    for kind in np.unique(kinds).tolist():
        number, schema_id = divmod(kind, _IDS)
        written.setdefault(plan.bundle.stream.order[number], {})[schema_id - 1] = events[kinds == kind]
    found: dict[str, Events] = {}
    for source, places in written.items():
        found[source], bad = read(batch.values, places, decoders, plan.columns[source])
        if len(bad) and plan.trigger_of(source):
            out.failed(bad, "undecodable", plan.bundle.ids)
    return found


def _vectors(state: State, plan: Plan, stretch: Stretch, out: Output) -> None:
    """Fold every table, and say the vectors of all triggers."""
    asking = [source for source in stretch.sources if plan.trigger_of(source)]
    ends = np.cumsum([0, *(len(stretch.sources[source]) for source in asking)]).tolist()
    begins = dict(zip(asking, ends, strict=False))
    windows, late = np.full((ends[-1], plan.starts[-1]), np.nan), np.zeros(ends[-1], np.bool_)
    for number, table in enumerate(state.tables):
        readers = {trigger.source for trigger in plan.triggers if number in trigger.tables}
        reads = {source: begin for source, begin in begins.items() if source in readers}
        _fold_table(table, stretch, reads, plan.starts[number], windows, late)
    for trigger in plan.triggers:
        if trigger.source in begins:
            rows = _begin(state.code, plan, trigger, stretch)
            part = slice(begins[trigger.source], begins[trigger.source] + len(rows))
            rows["late"] = late[part]
            _last_doubles(rows, len(trigger.windows))[...] = windows[part].take(trigger.windows, axis=1)
            out.vectors(stretch.sources[trigger.source].index, rows, trigger)


def _begin(code: int, plan: Plan, trigger: TriggerPlan, stretch: Stretch) -> npt.NDArray[np.void]:
    """A trigger's vectors with everything but the windows."""
    events, place = stretch.sources[trigger.source], stretch.places[trigger.source]
    known = plan.columns[trigger.source]
    rows = np.zeros(len(events), trigger.dtype)
    rows["frame"] = np.void(wire.frame(trigger.schema_id, b""))
    rows["position"], rows["event_time"] = stretch.positions[place], stretch.time[place]
    rows["stream_time"], rows["known_time"] = stretch.stream[place], stretch.known[place]
    rows["id_hash"] = events.ids(stretch.batch.keys)
    rows["spec"], rows["code"] = plan.bundle.mark, code
    for name in trigger.event:
        rows[f"event__{name}"] = events.hashes(name) if known[name].kind == "text" else events.numbers(name)
    return rows


def _last_doubles(rows: npt.NDArray[np.void], count: int) -> F8:
    """The last fields of structured rows, which are doubles, as float64[n, count]."""
    width = rows.dtype.itemsize
    return np.ndarray((len(rows), count), "<f8", rows, width - 8 * count, (width, 8))


def _fold_table(table: Table, stretch: Stretch, reads: Mapping[str, int], start: int, out: F8, late: npt.NDArray[np.bool_]) -> None:
    """Fold one table over the events that add to it or read it; `reads`: the sources that do, and the rows of `out` where theirs begin."""
    spec = table.plan
    names = frozenset({spec.source, *reads} & stretch.sources.keys())
    if names:
        table.fold(
            stretch.key(spec.entity, names),
            stretch.time,
            stretch.stream,
            stretch.rows(reads),
            stretch.holds(spec.source, spec.where),
            stretch.values(spec.source, spec.values),
            start,
            out,
            late,
        )


def _label_records(label: LabelPlan, stretch: Stretch) -> labels.Records:
    """Every record of a stretch as one model's label join sees it."""
    kinds = {label.trigger_source: np.int64(labels.TRIGGER), label.source: np.int64(labels.LABEL)}
    there = {source: kind for source, kind in kinds.items() if source in stretch.sources}
    kind = stretch.column(np.int64(0), there)
    for at in np.flatnonzero(stretch.kinds == log_header.PROGRESSED).tolist():
        if _record(_PROGRESSED, stretch.batch.values[stretch.begin + at])["ended"]:
            kind[at] = labels.ENDED
    return labels.Records(
        kind,
        stretch.key((label.match,), frozenset(there)),
        stretch.time,
        stretch.stream,
        stretch.positions,
        stretch.ids(label.trigger_source),
        stretch.values(label.source, (label.value,))[:, 0],
    )


def _record(schema: object, value: bytes) -> dict[str, object]:
    return fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None)  # type: ignore[arg-type,return-value]
