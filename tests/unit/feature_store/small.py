"""A small stream with everything in it that a view can say, and its log as batches without a broker."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import fastavro
import numpy as np

from services.feature_store.fold import FeatureStore
from services.feature_store.model import State
from tests.unit.feature_store.brute import Event
from tidemill.bus.fold import Batch
from tidemill.events import fixed, log, log_header, wire
from tidemill.events.blobs import Blobs
from tidemill.events.features import Failed, Outcome, Unlabelled
from tidemill.features.vector import vector_schema
from tidemill.spec import Bundle
from tidemill.spec.model import ModelSpec
from tidemill.spec.stream import StreamSpec

CODE = "sha256:" + "c0de" * 16
_INSTANT = {"type": "long", "logicalType": "timestamp-micros"}
SCHEMAS = {
    "asks": {
        "type": "record", "name": "Ask", "fields": [
            {"name": "id", "type": "string"}, {"name": "at", "type": _INSTANT}, {"name": "who", "type": ["null", "string"]},
            {"name": "x", "type": ["null", "double"]}, {"name": "loud", "type": "boolean"},
        ],
    },
    "tells": {
        "type": "record", "name": "Tell", "fields": [
            {"name": "id", "type": "string"}, {"name": "at", "type": _INSTANT}, {"name": "who", "type": ["null", "string"]},
            {"name": "about", "type": ["null", "string"]}, {"name": "y", "type": ["null", "double"]},
        ],
    },
}  # fmt: skip
IDS = {
    "asks": 1, "tells": 2, "vector:ask": 10, "tidemill.features.Outcome": 11, "tidemill.features.Unlabelled": 12,
    "tidemill.features.Failed": 13, "tidemill.log.SpecAdopted": 14, "tidemill.log.Progressed": 15,
    "tidemill.log.ModelSwitched": 16, "tidemill.predictions.Prediction": 17,
}  # fmt: skip
NAMES = {number: name for name, number in IDS.items()}


def bundle(views: dict[str, Any], within: str = "1h", match: str = "id", value: str = "y > 0") -> Bundle:
    """The stream with these views, and one model whose label is `tells.y > 0` about the ask."""
    source = {"id": "id", "time": "at"}
    stream = StreamSpec.model_validate(
        {
            "version": 1, "stream": "small", "owner": "us",
            "sources": {"asks": source | {"schema": "ask.avsc"}, "tells": source | {"schema": "tell.avsc"}},
            "entities": {"who": "who"}, "views": views, "triggers": {"ask": {"source": "asks"}},
        }
    )  # fmt: skip
    model = ModelSpec.model_validate(
        {
            "version": 1, "model": "m", "owner": "us", "trigger": "small.ask", "task": "binary", "features": {"event": ["x"]},
            "label": {"source": "tells", "match": match, "value": value, "within": within}, "approval": {"approvers": ["g"]},
        }
    )  # fmt: skip
    return Bundle(stream=stream, models={"m": model}, schemas=SCHEMAS, ids=IDS)


class Schemas:
    """The registry's part."""

    def __init__(self, more: Mapping[int, dict[str, Any]] | None = None) -> None:
        self._more = more or {}

    def schema(self, schema_id: int) -> dict[str, Any]:
        return self._more[schema_id] if schema_id in self._more else SCHEMAS[NAMES[schema_id]]


def records(spec: Bundle, events: list[Event], ended: bool = False) -> list[tuple[int, int, int, bytes | None, bytes]]:
    """(kind, source, known, key, value) of the log: the spec first, then the events, then perhaps the end."""
    adopted = log.SpecAdopted(seq=0, position=0, stream_time=0, stream="small", digest=spec.digest, content=spec.to_json())
    found: list[tuple[int, int, int, bytes | None, bytes]] = [
        (log_header.SPEC_ADOPTED, 255, 0, None, _framed("tidemill.log.SpecAdopted", adopted))
    ]
    for event in events:
        number = spec.stream.order.index(event.source)
        found.append((log_header.EVENT, number, event.known, event.id.encode(), wire.frame(IDS[event.source], _datum(event))))
    if ended:
        last = log.Progressed(seq=0, position=0, stream_time=0, stream="small", ended=True)
        found.append(
            (log_header.PROGRESSED, 255, events[-1].known if events else 0, None, _framed("tidemill.log.Progressed", last))
        )
    return found


def batches(found: list[tuple[int, int, int, bytes | None, bytes]], sizes: Iterator[int]) -> Iterator[Batch]:
    """The log in batches of these sizes."""
    begin, stream = 0, np.maximum.accumulate([known for _, _, known, _, _ in found])
    while begin < len(found):
        part = found[begin : begin + next(sizes)]
        end = begin + len(part)
        head = np.zeros(len(part), log_header.LOG_HEADER)
        head["kind"], head["source"], head["known"] = [r[0] for r in part], [r[1] for r in part], [r[2] for r in part]
        head["stream"], offsets = stream[begin:end], np.arange(begin, end)
        keys, values = Blobs.of([r[3] for r in part]), Blobs.of([r[4] for r in part])
        yield Batch("log", "small", 0, offsets, offsets * 0, keys, values, {}, offsets, head)
        begin = end


def fold(
    found: list[tuple[int, int, int, bytes | None, bytes]],
    sizes: Iterator[int],
    reload: bool = False,
    schemas: Schemas | None = None,
) -> list[tuple[bytes | None, bytes]]:
    """(key, value) of everything that comes out; `reload`: through a snapshot after each batch."""
    store = FeatureStore(schemas or Schemas(), CODE)
    state: State = store.initial("small", 0)
    out: list[tuple[bytes | None, bytes]] = []
    for batch in batches(found, sizes):
        store.prepare(state, batch)
        state, rows = store.step(state, batch)
        out += [pair for part in rows for pair in zip(part.keys.tolist(), part.values, strict=True)]
        if reload:
            state = store.load("small", 0, store.dump(state))
    return out


def parsed(spec: Bundle, out: list[tuple[bytes | None, bytes]]) -> list[tuple[str, np.void]]:
    """(record name, row) of what came out, control copies left out."""
    dtypes = {
        "vector:ask": fixed.dtype_of(vector_schema(spec, "ask")),
        **{kind.full_name(): fixed.dtype_of(kind.SCHEMA) for kind in (Outcome, Unlabelled, Failed)},
    }
    named = [(NAMES[wire.schema_id(value)], value) for _, value in out]
    return [(name.rpartition(".")[2], np.frombuffer(value, dtypes[name])[0]) for name, value in named if name in dtypes]


def _framed(name: str, event: Any) -> bytes:
    return wire.frame(IDS[name], wire.datum(event))


def _datum(event: Event) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(
        out, fastavro.parse_schema(SCHEMAS[event.source], named_schemas={}), event.row | {"id": event.id, "at": event.time}
    )
    return out.getvalue()
