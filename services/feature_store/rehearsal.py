"""A little stream, folded before the first real one: what is compiled or loaded on first use is there when an event comes."""

from __future__ import annotations

import io
from typing import Any, Final

import fastavro
import numpy as np

from services.feature_store.fold import FeatureStore
from tidemill.bus.fold import Batch
from tidemill.events import log, log_header, wire
from tidemill.events.base import Event
from tidemill.events.blobs import Blobs
from tidemill.events.features import Failed, Outcome, Unlabelled
from tidemill.events.predictions import Prediction
from tidemill.spec import Bundle
from tidemill.spec.model import ModelSpec
from tidemill.spec.stream import StreamSpec

MINUTE: Final = 60_000_000
_FIELDS = [
    {"name": "id", "type": "string"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "who", "type": ["null", "string"], "default": None},
    {"name": "x", "type": "double"},
]
_SOURCES: Final = ("asks", "tells")
SCHEMAS: Final = {name: {"type": "record", "name": name.title(), "fields": _FIELDS} for name in _SOURCES}
_OWN: Final[tuple[type[Event], ...]] = (Outcome, Unlabelled, Failed, log.SpecAdopted, log.Progressed, log.ModelSwitched, Prediction)
_NAMES: Final = (*_SOURCES, "vector:ask", *(kind.full_name() for kind in _OWN))
IDS: Final = {name: number for number, name in enumerate(_NAMES, 1)}


class Schemas:
    """The registry's part."""

    def schema(self, schema_id: int) -> dict[str, Any]:
        """Of a source."""
        return SCHEMAS[_NAMES[schema_id - 1]]


def rehearse() -> None:
    """Fold a spec, events of each source, and the end; restore what came of it."""
    spec, store = bundle(), FeatureStore(Schemas(), f"sha256:{0:064x}")
    state, batch = store.initial("rehearsal", 0), events(spec)
    store.prepare(state, batch)
    state, _ = store.step(state, batch)
    store.load("rehearsal", 0, store.dump(state))


def bundle() -> Bundle:
    """A stream with one view over each source, and a model with a label."""
    asked = {f"x_{agg}": {"agg": agg, "of": "x", "over": ["1h", "24h"]} for agg in ("count", "mean", "std", "last")}
    views = {name: {"source": name, "entity": "who", "where": "x > 0 AND who <> 'you'", "features": asked} for name in _SOURCES}
    stream = StreamSpec.model_validate(
        {
            "version": 1, "stream": "rehearsal", "owner": "tidemill", "entities": {"who": "who"}, "views": views,
            "sources": {name: {"id": "id", "time": "at", "schema": f"{name}.avsc"} for name in _SOURCES},
            "triggers": {"ask": {"source": "asks"}},
        }
    )  # fmt: skip
    label = {"source": "tells", "match": "id", "value": "x > 0", "within": "1h"}
    model = ModelSpec.model_validate(
        {
            "version": 1, "model": "rehearsal", "owner": "tidemill", "trigger": "rehearsal.ask", "task": "binary",
            "features": {"event": ["x"]}, "label": label, "approval": {"approvers": ["nobody"]},
        }
    )  # fmt: skip
    return Bundle(stream=stream, models={"rehearsal": model}, schemas=SCHEMAS, ids=IDS)


def events(spec: Bundle) -> Batch:
    """The log."""
    at = {"seq": 0, "position": 0, "stream_time": 0, "stream": spec.stream.stream}
    adopted = log.SpecAdopted(**at, digest=spec.digest, content=spec.to_json())
    rows = [{"id": "1", "at": MINUTE, "who": "me", "x": 1.0}, {"id": "2", "at": 2 * MINUTE, "who": None, "x": 2.0}]
    values = [_framed(adopted)]
    values += [wire.frame(IDS[name], _datum(name, row)) for name in _SOURCES for row in rows]
    values.append(_framed(log.Progressed(**at, ended=True)))
    head = np.zeros(len(values), log_header.LOG_HEADER)
    head["kind"] = [log_header.SPEC_ADOPTED, *[log_header.EVENT] * 4, log_header.PROGRESSED]
    head["source"] = [255, 0, 0, 1, 1, 255]
    head["known"] = head["stream"] = np.arange(len(values)) * MINUTE
    offsets, keys = np.arange(len(values)), Blobs.of([None, b"1", b"2", b"1", b"2", None])
    return Batch("log", spec.stream.stream, 0, offsets, np.zeros_like(offsets), keys, Blobs.of(values), {}, offsets, head)


def _datum(source: str, row: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(SCHEMAS[source], named_schemas={}), row)
    return out.getvalue()


def _framed(event: Event) -> bytes:
    return wire.frame(IDS[event.full_name()], wire.datum(event))
