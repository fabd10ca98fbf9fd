"""The fold: features and predictions in, closed windows and alerts out. Pure.

Records wait in the state until their predictions have come; what is folded, and in which order, follows from log positions alone, so
neither the size of a batch nor the order in which the inputs arrive changes a bit.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import fastavro
import numpy as np
import numpy.typing as npt

from services.monitoring.drift import Drift
from services.monitoring.model import LABELLED, SCORES, WAITING, State, Structs, Watch
from services.monitoring.window import Closing, Said, close, withdraw
from tidemill import telemetry
from tidemill.bus.fold import Batch
from tidemill.errors import Refused
from tidemill.events.blobs import Blobs
from tidemill.events.identity import hash64
from tidemill.events.log import ModelSwitched, Progressed, SpecAdopted
from tidemill.events.log_header import PREFIX
from tidemill.models.kinds import Kind
from tidemill.spec.model import ModelSpec
from tidemill.trust.keys import KeyRing

FEATURES, PREDICTIONS, SHADOWS = "features", "predictions", "shadow-predictions"
_CONTROL = {
    kind.full_name(): fastavro.parse_schema(kind.SCHEMA, named_schemas={}) for kind in (SpecAdopted, ModelSwitched, Progressed)
}
I8 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Known:
    """What the fold looks up: kinds of feature records, pinned keys, the decoder of predictions."""

    kinds: Mapping[int, Kind]
    ring: KeyRing
    predictions: Callable[[Blobs], Mapping[str, Structs]]
    """Framed predictions -> SCORES rows by model, in order."""


def step(state: State, batch: Batch, known: Known) -> tuple[State, list[Said]]:
    """Take a batch of one input, then fold everything that waits for nothing any more."""
    if batch.input == FEATURES:
        state.ids = np.concatenate([state.ids, batch.schema_ids])
        state.values = Blobs.concat([state.values, batch.values])
    else:
        for model, rows in known.predictions(batch.values).items():
            watch = state.watch(model)
            part = "heard" if batch.input == PREDICTIONS else "shadowed"
            setattr(watch, part, np.concatenate([getattr(watch, part), rows]))
    return state, _drain(state, known)


def _drain(state: State, known: Known) -> list[Said]:
    """Fold waiting feature records, a stretch between two control records at a time, as far as predictions have come."""
    said: list[Said] = []
    begin = 0
    names = {number: known.kinds[number].name for number in np.unique(state.ids).tolist() if number in known.kinds}
    control = np.flatnonzero(np.isin(state.ids, [number for number, name in names.items() if name in _CONTROL])).tolist()
    for end in [*control, len(state.ids)]:
        reach = _reach(state, known, begin, end)
        said += _fold(state, known, begin, reach)
        begin = reach
        if reach < end or end == len(state.ids):
            break
        said += _turn(state, known, names[int(state.ids[end])], state.values[end])
        begin = end + 1
    state.ids, state.values = state.ids[begin:], state.values.chosen(slice(begin, None)).packed()
    return said


def _reach(state: State, known: Known, begin: int, end: int) -> int:
    """How far records `begin`..`end` can be folded: up to the first trigger that some model's prediction is still missing for."""
    reach = end
    for model in state.roster.models.values():
        watch, seats = state.watch(model.model), state.roster.of(model.model)
        places = _triggers(state, known, model, begin, end)
        there = len(watch.heard)
        if seats.shadow(model) is not None:
            scored = _vectors_of(state, known, model, begin, end)
            if len(scored) > len(watch.shadowed):
                reach = min(reach, int(scored[len(watch.shadowed)]))
        if len(places) > there:
            reach = min(reach, int(places[there]))
    return reach


def _triggers(state: State, known: Known, model: ModelSpec, begin: int, end: int) -> I8:
    """Places of the records that a model answers: its trigger's vectors, and failed positions."""
    return _places(state, known, begin, end, lambda kind: kind.asks(model))


def _vectors_of(state: State, known: Known, model: ModelSpec, begin: int, end: int) -> I8:
    return _places(state, known, begin, end, lambda kind: kind.vector and kind.asks(model))


def _places(state: State, known: Known, begin: int, end: int, wanted: Callable[[Kind], bool]) -> I8:
    mine = state.ids[begin:end]
    numbers = [number for number in np.unique(mine).tolist() if number in known.kinds and wanted(known.kinds[number])]
    return np.flatnonzero(np.isin(mine, numbers)) + begin


def _fold(state: State, known: Known, begin: int, end: int) -> list[Said]:
    """Fold records of one stretch, every model by itself; what is said comes in the order of its positions."""
    if begin == end:
        return []
    times, _ = state.values.chosen(slice(begin, end)).heads(PREFIX)
    said: list[tuple[int, Said]] = []
    for model in state.roster.models.values():
        watch, at = state.watch(model.model), begin
        while at < end:
            if watch.begin is None:
                _open(watch, model, int(times["stream_time"][at - begin]))
            until = begin + int(np.searchsorted(times["stream_time"], watch.end))
            _collect(state, known, model, watch, at, min(until, end))
            at = max(at, min(until, end))
            if at < end:
                position = int(times["position"][at - begin])
                said += [(position, fact) for fact in _pass(state, known, model, position, int(times["stream_time"][at - begin]))]
    return [fact for _, fact in sorted(said, key=lambda one: one[0])]


def _collect(state: State, known: Known, model: ModelSpec, watch: Watch, begin: int, end: int) -> None:
    """Add records of one window to a model's figures: first its predictions, then the labels that came after them."""
    if begin >= end:
        return
    asked = _triggers(state, known, model, begin, end)
    scores, watch.heard = watch.heard[: len(asked)], watch.heard[len(asked) :]
    shadows = np.zeros(0, SCORES)
    if state.roster.of(model.model).shadow(model) is not None:
        count = len(_vectors_of(state, known, model, begin, end))
        shadows, watch.shadowed = watch.shadowed[:count], watch.shadowed[count:]
    scored = scores[~np.isnan(scores["score"])]
    watch.predictions, watch.scored = watch.predictions + len(scores), watch.scored + len(scored)
    watch.scores = np.concatenate([watch.scores, scored])
    watch.waiting = np.concatenate([watch.waiting, _waiting(scored, shadows)])
    places = _vectors_of(state, known, model, begin, end)
    watch.drift.add(state.ids[places], state.values.chosen(places), state.references.get(watch.champion), known.kinds)
    _label(state, known, model, watch, begin, end)


def _waiting(scored: Structs, shadows: Structs) -> Structs:
    rows = np.zeros(len(scored), WAITING)
    for which in ("position", "version", "score"):
        rows[which] = scored[which]
    rows["shadow"] = np.nan
    if len(shadows):
        places = np.searchsorted(scored["position"], shadows["position"])
        rows["shadow"][places] = shadows["score"]
    return rows


def _label(state: State, known: Known, model: ModelSpec, watch: Watch, begin: int, end: int) -> None:
    """Join outcomes with the scores that waited for them; the unlabelled wait no more."""
    name = hash64(model.model.encode())
    for record, labelled in (("Outcome", True), ("Unlabelled", False)):
        for number, kind in known.kinds.items():
            if kind.record != record or kind.dtype is None:
                continue
            rows = state.values.chosen(np.flatnonzero(state.ids[begin:end] == number) + begin).structs(kind.dtype)
            rows = rows[rows["model"] == name]
            if labelled:
                watch.outcomes, watch.outcomes_total = watch.outcomes + len(rows), watch.outcomes_total + len(rows)
            else:
                watch.unlabelled += len(rows)
            _resolve(watch, rows, labelled)


def _resolve(watch: Watch, rows: Structs, labelled: bool) -> None:
    if not len(rows) or not len(watch.waiting):
        return
    wanted = rows["trigger_position"]
    places = np.minimum(np.searchsorted(watch.waiting["position"], wanted), len(watch.waiting) - 1)
    there = watch.waiting["position"][places] == wanted
    if labelled:
        met = np.zeros(int(there.sum()), LABELLED)
        met["label"] = rows["label"][there]
        for which in ("version", "score", "shadow"):
            met[which] = watch.waiting[which][places[there]]
        watch.labelled = np.concatenate([watch.labelled, met])
    watch.waiting = np.delete(watch.waiting, places[there])


def _open(watch: Watch, model: ModelSpec, time: int) -> None:
    """Open the first window: that in which a time lies."""
    window = model.monitors.window
    watch.open(time // window * window, window)


def _pass(state: State, known: Known, model: ModelSpec, position: int, time: int) -> list[Said]:
    """Close what ends up to a time: the open window, and behind it those without a record as one, so that no gap costs more than that."""
    watch, window, said = state.watch(model.model), model.monitors.window, list[Said]()
    if watch.end <= time:
        said += _close(state, known, model, position)
    if watch.end <= time:
        watch.end = time // window * window
        said += _close(state, known, model, position)
    return said


def _close(state: State, known: Known, model: ModelSpec, position: int, ended: bool = False) -> list[Said]:
    """Close a model's open window at a position of the log."""
    watch = state.watch(model.model)
    reference = state.references.get(watch.champion)
    watch.drift.count(reference, known.kinds)
    return close(watch, model, Closing(state.stream, state.partition, position, ended), reference)


def _turn(state: State, known: Known, name: str, value: bytes) -> list[Said]:
    """Fold a control record: a new spec, a switch, or the stream's progress, which closes windows where no event would."""
    row = fastavro.schemaless_reader(io.BytesIO(value[5:]), _CONTROL[name], None)
    assert isinstance(row, dict)
    if name == SpecAdopted.full_name():
        return _adopt(state, SpecAdopted.model_validate(row))
    if name == ModelSwitched.full_name():
        _switch(state, known, ModelSwitched.model_validate(row))
        return []
    return _progress(state, known, int(row["stream_time"]), int(row["position"]), bool(row["ended"]))


def _adopt(state: State, spec: SpecAdopted) -> list[Said]:
    """Go on under a new spec. What is up and is in it no more would otherwise stay up for ever; and an open window ends where it would
    have, or before that at the end of one of the length that windows have now.
    """
    before, closing = state.roster, Closing(state.stream, state.partition, int(spec.position))
    state.roster = before.adopted(spec.content)
    said: list[Said] = []
    for model in before.models.values():
        after = state.roster.models.get(model.model)
        gone = model.monitors.alerts.keys() - (after.monitors.alerts.keys() if after else ())
        said += withdraw(state.watch(model.model), model, sorted(gone), closing, int(spec.stream_time))
    for model in state.roster.models.values():
        watch, window = state.watch(model.model), model.monitors.window
        if watch.begin is not None:
            watch.end = min(watch.end, (max(watch.begin, int(spec.stream_time)) // window + 1) * window)
    return said


def _switch(state: State, known: Known, switch: ModelSwitched) -> None:
    """Where a switch that holds seats another champion, its counts begin anew, against its own reference."""
    try:
        state.roster = state.roster.switched(switch, telemetry.link(None), known.ring)
    except Refused:
        return
    watch, champion = state.watch(switch.model), state.roster.of(switch.model).champion
    seated = (champion.artifact, champion.version) if champion else ("", None)
    if seated == (watch.champion, watch.version):
        return
    watch.drift, (watch.champion, watch.version) = Drift(), seated
    for alert in watch.alerts.values():
        alert.streak = 0


def _progress(state: State, known: Known, time: int, position: int, ended: bool) -> list[Said]:
    said: list[Said] = []
    for model in state.roster.models.values():
        watch = state.watch(model.model)
        if watch.begin is None:
            _open(watch, model, time)
        said += _pass(state, known, model, position, time)
        if ended:
            said += _close(state, known, model, position, ended=True)
    return said
