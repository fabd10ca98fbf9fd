"""The fold: batches of the log in, rows for `features.<stream>` out. Pure; the size of a batch changes no bit."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import fastavro
import numpy as np
import numpy.typing as npt

from services.feature_store.columns import I8, Events, Merged, read
from services.feature_store.model import State
from services.feature_store.rows import Output
from tidemill.bus.fold import Batch, Rows
from tidemill.events import log_header, wire
from tidemill.events.columnar import Decoder
from tidemill.events.log import Progressed, SpecAdopted
from tidemill.features import labels
from tidemill.features.plan import LabelPlan, Plan, TablePlan, TriggerPlan, compile_text
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
    together = _Together(plan, batch, sources)
    for number, table in enumerate(state.tables):
        readers = [trigger for trigger in plan.triggers if number in trigger.tables and trigger.name in vectors]
        if events := together.of({table.plan.source, *(trigger.source for trigger in readers)}):
            _fold_table(table, events, [(trigger.source, vectors[trigger.name]) for trigger in readers])
    for trigger in plan.triggers:
        if trigger.name in vectors:
            out.vectors(sources[trigger.source].index, vectors[trigger.name], trigger)


def _begin(code: int, plan: Plan, trigger: TriggerPlan, batch: Batch, events: Events) -> npt.NDArray[np.void]:
    """A trigger's vectors with everything but the windows."""
    heads = batch.log
    assert heads is not None
    rows = np.zeros(len(events), trigger.dtype)
    head, known = heads[events.index], plan.columns[trigger.source]
    rows["frame"] = np.void(wire.frame(trigger.schema_id, b""))
    rows["position"], rows["stream_time"], rows["known_time"] = batch.offsets[events.index], head["stream"], head["known"]
    rows["event_time"] = events.instants(plan.bundle.stream.sources[trigger.source].time)
    rows["id_hash"] = events.ids(batch.keys)
    rows["spec"], rows["code"] = plan.bundle.mark, code
    for name in trigger.event:
        rows[f"event__{name}"] = events.hashes(name) if known[name].kind == "text" else events.numbers(name)
    return rows


class _Together:
    """Sources whose events a table folds together; most tables fold the same ones."""

    def __init__(self, plan: Plan, batch: Batch, sources: Mapping[str, Events]) -> None:
        assert batch.log is not None
        self._sources, self._stream, self._found = sources, batch.log["stream"], dict[frozenset[str], Merged]()
        self._times = {name: source.time for name, source in plan.bundle.stream.sources.items()}

    def of(self, names: set[str]) -> Merged | None:
        """The events of these sources; None where the stretch has none of them."""
        there = frozenset(names & self._sources.keys())
        if there and there not in self._found:
            self._found[there] = Merged({name: self._sources[name] for name in sorted(there)}, self._times, self._stream)
        return self._found.get(there)


def _fold_table(table: Table, merged: Merged, readers: Sequence[tuple[str, npt.NDArray[np.void]]]) -> None:
    """Fold one table over the events that add to it or read it; `readers` are sources of triggers, and their vectors."""
    spec, sources = table.plan, merged.sources
    adding = {spec.source: sources[spec.source]} if spec.source in sources else {}
    folded, late = table.fold(
        merged.column(np.uint64(0), {name: events.key(spec.entity) for name, events in sources.items()}),
        merged.time,
        merged.stream,
        merged.column(np.False_, {name: np.ones(len(rows), np.bool_) for name, rows in readers}),
        merged.column(np.False_, {name: events.holds(spec.where) for name, events in adding.items()}),
        _values(spec, merged, adding),
    )
    for source, rows in readers:
        mine = merged.places[source]
        rows["late"] |= late[mine]
        for name, column in zip(spec.names, folded[mine].T, strict=True):
            rows[name] = column


def _values(spec: TablePlan, merged: Merged, adding: Mapping[str, Events]) -> F8:
    """float64[n, values]: what the aggregations of a table are over; of a count alone nothing, in one column."""
    columns = [
        merged.column(np.float64(np.nan), {name: e.value(expression) for name, e in adding.items()}) for expression in spec.values
    ]
    return np.stack(columns or [np.full(len(merged), np.nan)], axis=1)


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
            rows["id_hash"][place] = events.ids(batch.keys)
        else:
            rows["label"][place] = events.value(label.value)
    for at in np.flatnonzero(head["kind"] == log_header.PROGRESSED).tolist():
        if _record(_PROGRESSED, batch.values[begin + at])["ended"]:
            rows["kind"][at] = labels.ENDED
    return rows


def _record(schema: object, value: bytes) -> dict[str, object]:
    return fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None)  # type: ignore[arg-type,return-value]
