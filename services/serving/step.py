"""The fold: feature records in, predictions out. Pure; the size of a batch changes no bit."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import fastavro
import numpy as np
import numpy.typing as npt

from services.serving.answers import FAILED, NO_MODEL, SCORED, Answers
from services.serving.model import State
from tidemill import telemetry
from tidemill.bus.fold import ABOUT, LINK, Batch, Rows
from tidemill.errors import Refused
from tidemill.events import wire
from tidemill.events.blobs import Blobs
from tidemill.events.identity import hash64
from tidemill.events.log import ModelSwitched, SpecAdopted
from tidemill.events.predictions import Prediction
from tidemill.models.kinds import Kind
from tidemill.models.rollout import Roster, Seat
from tidemill.models.scorer import Scorer
from tidemill.spec.model import ModelSpec
from tidemill.trust.keys import KeyRing

PREDICTIONS, SHADOWS = "predictions", "shadows"
_ADOPTED = fastavro.parse_schema(SpecAdopted.SCHEMA, named_schemas={})
_SWITCHED = fastavro.parse_schema(ModelSwitched.SCHEMA, named_schemas={})
_HEADS = np.dtype([("position", "<f8"), ("stream_time", "<f8"), ("event_time", "<f8"), ("known_time", "<f8"), ("id_hash", "<u8")])
I8 = npt.NDArray[np.int64]


def step(state: State, batch: Batch, kinds: Mapping[int, Kind], ring: KeyRing) -> tuple[State, list[Rows]]:
    """Fold one batch: a stretch between two control records at a time."""
    ids = batch.schema_ids
    said: dict[str, list[Answers]] = {PREDICTIONS: [], SHADOWS: []}
    names, begin = turning(ids, kinds), 0
    for at in np.flatnonzero(np.isin(ids, list(names))).tolist():
        _stretch(state, batch, ids, begin, at, kinds, said)
        with suppress(Refused):  # a switch that does not hold changes nothing
            state.roster = turned(state.roster, names[int(ids[at])], batch, at, ring)
        begin = at + 1
    _stretch(state, batch, ids, begin, len(batch), kinds, said)
    return state, [rows for output in said if (rows := _rows(state, batch, output, said[output]))]


def turning(ids: I8, kinds: Mapping[int, Kind]) -> dict[int, str]:
    """The schema ids of a batch whose records change the roster, with the records' names."""
    names = {number: kinds[number].name for number in np.unique(ids).tolist() if number in kinds}
    return {number: name for number, name in names.items() if name in (SpecAdopted.full_name(), ModelSwitched.full_name())}


def turned(roster: Roster, name: str, batch: Batch, at: int, ring: KeyRing) -> Roster:
    """The roster behind a control record. Raises Refused where it is a switch that does not hold."""
    if name == SpecAdopted.full_name():
        return roster.adopted(str(_record(_ADOPTED, batch.values[at])["content"]))
    traceparent = dict(batch.headers.get(at, ())).get("traceparent")
    switch = ModelSwitched.model_validate(_record(_SWITCHED, batch.values[at]))
    return roster.switched(switch, telemetry.link(traceparent), ring)


def _stretch(
    state: State, batch: Batch, ids: I8, begin: int, end: int, kinds: Mapping[int, Kind], said: dict[str, list[Answers]]
) -> None:
    """Answer the triggers among records `begin`..`end`, under one roster."""
    bundle = state.roster.bundle
    if bundle is None or begin == end:
        return
    mine = ids[begin:end]
    for number in np.unique(mine).tolist():
        kind = kinds.get(number)
        asked = [model for model in bundle.models.values() if kind is not None and kind.asks(model)]
        if kind is None or kind.dtype is None or not asked:
            continue
        index = np.flatnonzero(mine == number) + begin
        rows = batch.values.chosen(index).structs(kind.dtype)
        for model in asked:
            _answer(state, model, kind, index, rows, said)


def _answer(
    state: State, model: ModelSpec, kind: Kind, index: I8, rows: npt.NDArray[np.void], said: dict[str, list[Answers]]
) -> None:
    assert state.roster.bundle is not None
    seats, scorers = state.roster.of(model.model), state.scorers
    status = FAILED if not kind.vector else NO_MODEL if seats.champion is None else SCORED
    plain = Answers(model.model, model.trigger_source(state.roster.bundle), None, model.threshold, index, _heads(rows), status)
    if status != SCORED or seats.champion is None:
        said[PREDICTIONS].append(plain)
        return
    said[PREDICTIONS].append(_scored(plain, seats.champion, rows, scorers))
    if (shadow := seats.shadow(model)) is not None:
        said[SHADOWS].append(_scored(plain, shadow, rows, scorers))


def _scored(answers: Answers, seat: Seat, rows: npt.NDArray[np.void], scorers: Mapping[str, Scorer]) -> Answers:
    scorer = scorers[seat.artifact]
    scores, missing = scorer.score(rows)
    names = tuple(scorer.encoding.names)
    return replace(answers, version=seat.version, scores=scores, missing=missing, names=names, link=seat.link)


def _heads(rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """What an answer repeats of its trigger; a failed position has no times of its own but the stream's."""
    heads = np.zeros(len(rows), _HEADS)
    for name in ("position", "stream_time", "id_hash"):
        heads[name] = rows[name]
    known = rows.dtype.names or ()
    for name in ("event_time", "known_time"):
        heads[name] = rows[name if name in known else "stream_time"]
    return heads


def _rows(state: State, batch: Batch, output: str, said: list[Answers]) -> Rows | None:
    """All answers of one output in the order of their triggers, numbered."""
    if not said or state.roster.bundle is None:
        return None
    begin = state.seqs[output]
    index = np.concatenate([answers.index for answers in said])
    order = np.argsort(index, kind="stable")
    seqs = np.empty(len(index), np.int64)
    seqs[order] = np.arange(begin, begin + len(index))
    state.seqs[output] += len(index)
    frame = wire.frame(state.roster.bundle.ids[Prediction.full_name()], b"")
    values, envelopes, at = list[Blobs](), list[Blobs](), 0
    for answers in said:
        mine = seqs[at : at + len(answers.index)]
        values.append(answers.encode(frame, mine))
        envelopes.append(answers.envelopes(f"tidemill/serving/{batch.stream}", batch.keys.chosen(answers.index), mine))
        at += len(mine)
    causes = index[order]
    return Rows(
        output=output,
        seq=begin,
        keys=batch.keys.chosen(causes),
        values=Blobs.concat(values).chosen(order),
        heads=Blobs.concat(envelopes).chosen(order),
        cause=causes,
        about=np.concatenate([_about(batch.stream, answers) for answers in said])[order],
        links=np.concatenate([np.full(len(answers.index), np.array(answers.link, LINK)) for answers in said])[order],
        failed=sum(len(answers.index) for answers in said if answers.status == FAILED),
    )


def _about(stream: str, answers: Answers) -> npt.NDArray[np.void]:
    about = np.zeros(len(answers.index), ABOUT)
    about["trace_high"] = hash64(f"{stream}/{answers.source}".encode())
    about["id_hash"], about["position"] = answers.heads["id_hash"], answers.heads["position"]
    return about


def _record(schema: object, value: bytes) -> dict[str, object]:
    return fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None)  # type: ignore[arg-type,return-value]
