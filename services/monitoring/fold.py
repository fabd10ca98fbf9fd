"""Monitoring as the loop sees it."""

from __future__ import annotations

import io
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import fastavro
import numpy as np
import numpy.typing as npt
import polars as pl

from services.monitoring.model import SCORES, State, Structs
from services.monitoring.step import FEATURES, PREDICTIONS, SHADOWS, Known, step
from services.monitoring.window import Said
from tidemill.bus import fold, heads
from tidemill.bus.fold import Batch, Input, OutputTopic, Snapshot
from tidemill.bus.metrics import REFERENCES_MISSING
from tidemill.errors import Rejected
from tidemill.events import envelope, wire
from tidemill.events.base import Event
from tidemill.events.blobs import Blobs
from tidemill.events.columnar import Decoder
from tidemill.events.identity import event_id
from tidemill.events.log import ModelSwitched
from tidemill.events.monitoring import AlertCleared, AlertRaised, WindowClosed
from tidemill.events.predictions import Prediction
from tidemill.models import artifact
from tidemill.models.kinds import Kind
from tidemill.models.reference import Reference
from tidemill.models.rollout import Roster
from tidemill.telemetry.references import alert_of, link_to
from tidemill.trust.keys import KeyRing

logger = logging.getLogger(__name__)

KINDS: tuple[type[Said], ...] = (WindowClosed, AlertRaised, AlertCleared)
_SWITCHED = fastavro.parse_schema(ModelSwitched.SCHEMA, named_schemas={})
_ENOUGH = 50_000
"""Records of one input that may wait for the others."""


class Schemas(Protocol):
    """The registry."""

    def schema(self, schema_id: int) -> dict[str, Any]: ...
    def id_of(self, event_type: type[Event]) -> int: ...


class Store(Protocol):
    """Where artifacts are."""

    def get_tree(self, digest: str) -> dict[str, bytes]: ...


class Monitoring:
    """`bus.fold.Fold` over features, predictions and shadow predictions."""

    name = "monitoring"
    inputs: tuple[Input, ...] = (Input(FEATURES), Input(PREDICTIONS), Input(SHADOWS))
    outputs: Mapping[str, OutputTopic] = {
        kind.ce_type(): OutputTopic(kind.ce_type(), tail="scan", own_trace=kind is AlertRaised) for kind in KINDS
    }

    def __init__(self, schemas: Schemas, store: Store, ring: KeyRing, code: str) -> None:
        """`ring` are this process's own pinned keys; `code` is the digest of the fold's code."""
        self._schemas, self._store, self._code = schemas, store, code
        self._kinds: dict[int, Kind] = {}
        self._ids: dict[type[Event], int] = {}
        self._known = Known(self._kinds, ring, _reader(Decoder(Prediction.SCHEMA)))

    def digest(self, state: State) -> str:
        """Code and spec."""
        bundle = state.roster.bundle
        return self._code if bundle is None else f"{self._code}/{bundle.digest}"

    def initial(self, stream: str, partition: int) -> State:
        """No window is open yet."""
        return State(stream, partition, Roster(stream))

    def prepare(self, state: State, batch: Batch) -> None:
        """Look up schemas, and the training references of versions that are or may become champion."""
        if not self._ids:
            self._ids = {kind: self._schemas.id_of(kind) for kind in KINDS}
        if batch.input != FEATURES:
            return
        ids = batch.schema_ids
        self._learn(np.unique(ids).tolist())
        self._refer(state, self._named(ids, batch.values))

    def step(self, state: State, batch: Batch) -> tuple[State, list[fold.Rows]]:
        """See `step.step`; what it says becomes records here."""
        state, said = step(state, batch, self._known)
        return state, [
            self._rows(state, kind, mine) for kind in KINDS if (mine := [fact for fact in said if isinstance(fact, kind)])
        ]

    def full(self, state: State) -> Collection[str]:
        """The inputs of which enough waits for the others."""
        waiting = {FEATURES: len(state.values)}
        for part, name in (("heard", PREDICTIONS), ("shadowed", SHADOWS)):
            waiting[name] = max((len(getattr(watch, part)) for watch in state.watches.values()), default=0)
        return [name for name, count in waiting.items() if count > _ENOUGH]

    def dump(self, state: State) -> Snapshot:
        """The state as arrays and plain values."""
        return Snapshot(*state.to_plain())

    def load(self, stream: str, partition: int, snapshot: Snapshot) -> State:
        """The state of `dump`, with what its next step will need."""
        state = State.from_plain(stream, snapshot.arrays, snapshot.meta)
        self._learn(np.unique(state.ids).tolist())
        self._learn([number for watch in state.watches.values() for number in watch.drift.waiting])
        bundle = state.roster.bundle
        if bundle is not None:
            self._learn([number for name, number in bundle.ids.items() if name.startswith(("vector:", "tidemill.features."))])
        self._refer(state, self._named(state.ids, state.values))
        return state

    def _learn(self, ids: Sequence[int]) -> None:
        for number in ids:
            if number >= 0 and number not in self._kinds:
                self._kinds[number] = Kind.of(self._schemas.schema(number))

    def _refer(self, state: State, coming: Collection[str]) -> None:
        """Have the references of the champions, and of the artifacts that waiting and `coming` switches name; let go of all others."""
        had = state.references
        wanted = {watch.champion for watch in state.watches.values() if watch.champion} | set(coming)
        if others := had.keys() - wanted:  # a switch that came earlier named them, and may be waiting still
            wanted |= others & self._named(state.ids, state.values)
        state.references = {
            digest: had[digest] if digest in had else self._reference(state.stream, digest) for digest in sorted(wanted)
        }

    def _named(self, ids: npt.NDArray[np.int64], values: Blobs) -> set[str]:
        """The artifacts that the switches among these records name."""
        switches = [number for number, kind in self._kinds.items() if kind.name == ModelSwitched.full_name()]
        return {_artifact(values[at]) for at in np.flatnonzero(np.isin(ids, switches)).tolist()}

    def _reference(self, stream: str, digest: str) -> Reference | None:
        try:
            return Reference.from_json(artifact.part(self._store.get_tree(digest), artifact.REFERENCE))
        except Rejected as error:  # a switch may name anything; without a reference there is no drift to tell
            REFERENCES_MISSING.labels(stream, error.reason).inc()
            logger.error("no reference", extra={"stream": stream, "artifact": digest, "reason": error.reason, "why": error.message})
            return None

    def _rows(self, state: State, kind: type[Said], said: list[Any]) -> fold.Rows:
        name = kind.ce_type()
        begin = state.seqs.get(name, 0)
        state.seqs[name] = begin + len(said)
        return fold.Rows(
            output=name,
            seq=begin,
            keys=Blobs.of([fact.kafka_key() for fact in said]),
            values=Blobs.of([wire.frame(self._ids[kind], wire.datum(fact)) for fact in said]),
            heads=heads.of([_headers(state, fact, begin + at) for at, fact in enumerate(said)]),
            links=_raised(said) if kind is AlertCleared else None,
        )


def _raised(cleared: Sequence[AlertCleared]) -> Structs:
    """The spans of the alerts that were cleared."""
    return np.array([link_to(alert_of(fact.stream, fact.alert)) for fact in cleared], fold.LINK)


def _headers(state: State, fact: Said, seq: int) -> envelope.Headers:
    """The envelope; the event's id follows from its place in the log, so that a repeated one is known. An alert's is the alert's."""
    cause = f"log.{state.stream}[{state.partition}]:{fact.position}"
    subject = f"{fact.model}/{fact.window_end}" + ("" if isinstance(fact, WindowClosed) else f"/{fact.name}")
    said = fact.alert if isinstance(fact, AlertRaised) else event_id(cause, fact.ce_type(), subject)
    source = f"tidemill/monitoring/{state.stream}"
    return envelope.headers(said, source, fact.ce_type(), fact.window_end, caused_by=cause, seq=seq, position=fact.position)


def _artifact(value: bytes) -> str:
    row = fastavro.schemaless_reader(io.BytesIO(value[5:]), _SWITCHED, None)
    return str(row["artifact"]) if isinstance(row, dict) else ""


def _reader(decoder: Decoder) -> Any:
    """Framed predictions to SCORES rows by model."""

    def read(values: Blobs) -> dict[str, Structs]:
        frame = decoder.decode(values).frame.select("model", "position", "version", "score")
        found: dict[str, Structs] = {}
        for (model,), part in frame.group_by("model", maintain_order=True):
            rows = np.zeros(len(part), SCORES)
            rows["position"] = part["position"].to_numpy()
            rows["version"] = part["version"].fill_null(-1).to_numpy()
            rows["score"] = part["score"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
            found[str(model)] = rows
        return found

    return read
