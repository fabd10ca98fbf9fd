"""Raw records to rows: decoded as columns (R19) and judged, each on its own. What one row is to another: step.merge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import fastavro
import numpy as np
import numpy.typing as npt
import polars as pl

from services.ingest import errors
from services.ingest.model import I64, U64, Arrival, Dead, Promise, RawRows
from services.ingest.step import rules
from services.ingest.step.plan import PROMISE, Plan, Source
from tidemill.errors import Rejected
from tidemill.events import wire
from tidemill.events.blobs import Blobs
from tidemill.events.columnar import PRIMITIVES, Decoder
from tidemill.events.feed import Progressed
from tidemill.events.identity import hash64_column, hash64_many
from tidemill.spec.columns import columns_of

Index = npt.NDArray[np.intp]

_PROMISE = fastavro.parse_schema(Progressed.SCHEMA, named_schemas={})
_TOO_LARGE: Final = -2
_UNFRAMED: Final = -3
"""These stand for a schema id, as -1 does for none."""


@dataclass
class Read:
    """What became of one lane's records."""

    rows: RawRows = field(default_factory=RawRows.none)
    """In raw order, their merge key not yet made."""
    promises: list[Promise] = field(default_factory=list)
    dead: list[Dead] = field(default_factory=list)
    warned: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Failed checks that only warn, by source and rule."""


def unknown_ids(plan: Plan, arrival: Arrival) -> list[int]:
    """The schema ids that must be looked up (Source.learn) before `read`."""
    known = plan.sources[arrival.lane.source].readers
    return [
        found for found in np.unique(_schema_ids(arrival, Blobs.of(arrival.values))).tolist() if found >= 0 and found not in known
    ]


def read(plan: Plan, arrival: Arrival) -> Read:
    """Decode and judge one lane's records; those of other shards are left out."""
    source, out, parts = plan.sources[arrival.lane.source], Read(), []
    values = Blobs.of(arrival.values)
    ids = _schema_ids(arrival, values)
    ids[values.lengths > plan.max_bytes] = _TOO_LARGE
    for schema_id in np.unique(ids).tolist():
        index = np.flatnonzero(ids == schema_id)
        reader = source.readers.get(schema_id, f"schema {schema_id} was not looked up")
        if isinstance(reader, Decoder):
            parts.append(_events(plan, source, reader, arrival, values.chosen(index), index, out))
        elif reader == PROMISE:
            out.promises += _promises(plan, arrival, index, out)
        elif schema_id == _UNFRAMED:
            for i in index.tolist():
                out.dead += _refused(plan, arrival, np.array([i]), *arrival.unframed[i])
        else:
            out.dead += _refused(plan, arrival, index, *_why(schema_id, reader, plan.max_bytes))
    out.rows = _in_order(parts)
    out.promises.sort(key=lambda promise: promise.offset)
    out.dead.sort(key=lambda dead: dead.offset)
    return out


def _schema_ids(arrival: Arrival, values: Blobs) -> I64:
    ids = wire.schema_ids(values)
    ids[list(arrival.unframed)] = _UNFRAMED
    return ids


def _why(schema_id: int, reader: str, max_bytes: int) -> tuple[str, str]:
    if schema_id == _TOO_LARGE:
        return errors.TOO_LARGE, f"more than {max_bytes} bytes"
    if schema_id < 0:
        return errors.UNDECODABLE, "does not begin with the schema prefix (byte 0 and a 4-byte id)"
    return errors.UNKNOWN_SCHEMA, reader


def _refused(plan: Plan, arrival: Arrival, index: Index, reason: str, message: str) -> Iterator[Dead]:
    """Dead letters of records whose shard cannot be known: one shard says them."""
    if arrival.lane.partition % plan.shards == plan.shard:
        for i in index.tolist():
            yield Dead(arrival.lane, int(arrival.offsets[i]), reason, message, arrival.origins[i])


def _promises(plan: Plan, arrival: Arrival, index: Index, out: Read) -> Iterator[Promise]:
    for i in index.tolist():
        try:
            said = Progressed.model_validate(wire.decode_datum((arrival.values[i] or b"")[5:], _PROMISE))
            if said.source != arrival.lane.source:
                raise Rejected(errors.CHECK_FAILED, f"a promise of {said.source!r} in the topic of {arrival.lane.source!r}")
            if not rules.speakable(said.until):
                raise Rejected(errors.TIME_OUT_OF_RANGE, f"a promise until {said.until} us")
        except Rejected as error:
            out.dead += _refused(plan, arrival, np.array([i]), error.reason, error.message)
        else:
            yield Promise(int(arrival.offsets[i]), said.until, said.ended)


def _events(plan: Plan, source: Source, decoder: Decoder, arrival: Arrival, values: Blobs, index: Index, out: Read) -> RawRows:
    decoded = decoder.decode(values)
    for i, message in decoded.bad:
        out.dead += _refused(plan, arrival, index[i : i + 1], errors.UNDECODABLE, message)
    index = index[decoded.good]
    found = rules.events(source, _completed(source, decoded.frame), arrival.times[index])
    idents = hash64_many(Blobs.of_texts(found.ids)) ^ np.uint64(source.salt)
    good = _mine(plan, found.frame)
    for fault in rules.faults(found):
        out.dead += _buried(arrival, index, np.flatnonzero(fault.failed & good), fault)
        good &= ~fault.failed
    out.warned += rules.warnings(found, good)
    return _rows(arrival, found, index, idents, np.flatnonzero(good))


def _buried(arrival: Arrival, index: Index, failed: Index, fault: rules.Fault) -> Iterator[Dead]:
    for i in failed.tolist():
        place = index[i]
        yield Dead(arrival.lane, int(arrival.offsets[place]), fault.reason, fault.message(i), arrival.origins[place])


def _rows(arrival: Arrival, found: rules.Events, index: Index, idents: U64, keep: Index) -> RawRows:
    picks, kept = index[keep].tolist(), keep.tolist()
    values = [arrival.values[i] or b"" for i in picks]
    known = found.times.known[keep]
    return RawRows(
        key=known,
        known=known,
        latest=found.times.latest[keep],
        source=np.full(len(picks), found.source.index, np.uint8),
        partition=np.full(len(picks), arrival.lane.partition, np.uint16),
        offset=arrival.offsets[index[keep]],
        ident=idents[keep],
        content=hash64_many(Blobs.of(values)),
        ids=[found.ids[i] or "" for i in kept],
        values=values,
        origins=[arrival.origins[i] for i in picks],
    )


def _completed(source: Source, frame: pl.DataFrame) -> pl.DataFrame:
    """With the columns that an older schema of the source lacks, at their defaults."""
    lacking = [field["name"] for field in source.schema["fields"] if field["name"] not in frame.columns and "default" in field]
    if not lacking:
        return frame
    known = columns_of(source.schema)
    return frame.with_columns([pl.lit(known[name].default, PRIMITIVES.get(known[name].avro)).alias(name) for name in lacking])


def _mine(plan: Plan, frame: pl.DataFrame) -> rules.Mask:
    """Which rows belong to this shard."""
    split = plan.bundle.stream.split_by
    if plan.shards == 1 or split is None:
        return np.ones(len(frame), np.bool_)
    return np.asarray(hash64_column(frame[split]) % np.uint64(plan.shards) == np.uint64(plan.shard))


def _in_order(parts: list[RawRows]) -> RawRows:
    if not parts:
        return RawRows.none()
    rows = RawRows.joined(parts)
    return rows if len(parts) == 1 else rows.take(np.argsort(rows.offset, kind="stable"))
