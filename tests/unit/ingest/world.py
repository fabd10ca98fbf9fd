"""A small world for ingest's step: a spec, raw lanes as lists, and a log as a list."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import fastavro
import numpy as np

from services.ingest.model import Arrival, Dead, Lane, State, Switch
from services.ingest.step import Output, Records, Shard, adopt, barrier, begin, compiled, restore, step
from tidemill.events import feed, log, log_header, wire
from tidemill.events.base import Event
from tidemill.events.blobs import Blobs
from tidemill.events.folded import FOLD_TYPES
from tidemill.spec import Bundle, StreamSpec
from tidemill.trust.keys import KeyRing

SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND
"""The broker's clock in these tests, us."""
IDS = {"a": 1, "b": 2, "vector:t": 3, **{kind.full_name(): 10 + i for i, kind in enumerate(FOLD_TYPES)}}


def schema(source: str) -> dict[str, Any]:
    return {
        "type": "record",
        "name": source.upper(),
        "namespace": "world",
        "fields": [
            {"name": "id", "type": ["null", "string"], "default": None},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "amount", "type": "double"},
            {"name": "share", "type": ["null", "double"], "default": None},
            {"name": "color", "type": ["null", "string"], "default": None},
        ],
    }


def bundle(
    dedupe: str = "7d",
    align_wait: str = "0s",
    shards: int = 1,
    stream: str = "world",
    ids: dict[str, int] | None = None,
    **source: Any,
) -> Bundle:
    """Sources a and b with the same columns; at equal times b goes first."""
    spec = {"id": "id", "time": "at", "dedupe": dedupe, "accept": {"from": "1990-01-01", "ahead": "5m"}, **source}
    told = {
        "version": 1, "stream": stream, "owner": "tests", "shards": shards, "split_by": "color" if shards > 1 else None,
        "sources": {"a": {"schema": "a.avsc", **spec}, "b": {"schema": "b.avsc", **spec}}, "order": ["b", "a"],
        "align_wait": align_wait, "entities": {"id": "id"}, "views": {}, "triggers": {"t": {"source": "a"}},
    }  # fmt: skip
    return Bundle(stream=StreamSpec.model_validate(told), models={}, schemas={"a": schema("a"), "b": schema("b")}, ids=ids or IDS)


_PARSED = {source: fastavro.parse_schema(schema(source)) for source in ("a", "b")}


def event(
    source: str,
    id: str | None,
    at: int,
    amount: float = 1.0,
    color: str | None = None,
    schema_id: int | None = None,
    share: float | None = None,
) -> bytes:
    """A framed raw event; `at` in us."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, _PARSED[source], {"id": id, "at": at, "amount": amount, "share": share, "color": color})
    return wire.frame(IDS[source] if schema_id is None else schema_id, out.getvalue())


def promise(source: str, until: int, ended: bool = False) -> bytes:
    return frame(feed.Progressed(source=source, until=until, ended=ended))


def frame(said: Event) -> bytes:
    return wire.frame(IDS[said.full_name()], wire.datum(said))


def arrival(lane: Lane, values: Sequence[bytes | None], begin: int = 0, now: int = NOW) -> Arrival:
    offsets = np.arange(begin, begin + len(values))
    return Arrival(lane, offsets, np.full(len(values), now), list(values), [f"{lane.source}/{lane.partition}/{n}" for n in offsets])


NOBODY = KeyRing({})


@dataclass(frozen=True)
class Places:
    """What the broker keeps of a shard: how far its raw lanes were judged when its log had so many records, and their floors."""

    count: int
    passed: dict[Lane, int]
    floor: dict[Lane, int]


NOWHERE = Places(0, {}, {})


@dataclass
class Log:
    """What the writers of one shard have appended."""

    headers: list[np.void] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)

    def append(self, records: Iterable[Records]) -> None:
        for part in records:
            self.headers += list(part.headers)
            self.keys += [None if key is None else key.encode() for key in part.keys]
            self.values += part.values

    def follow(self, state: State, end: int, ring: KeyRing = NOBODY) -> None:
        """Take the records up to offset `end` into the state."""
        self.restore(state, slice(state.offset, end), ring)

    def restore(self, state: State, part: slice, ring: KeyRing = NOBODY) -> None:
        """Take some records into the state."""
        keys, values = Blobs.of(self.keys[part]), Blobs.of(self.values[part])
        restore(state, self.rows[part], np.arange(len(self.headers))[part], keys, values, ring)

    def prefix(self, count: int) -> Log:
        return Log(self.headers[:count], self.keys[:count], self.values[:count])

    @property
    def rows(self) -> np.ndarray:
        return np.array(self.headers, log_header.LOG_HEADER)

    def events(self) -> list[tuple[Any, ...]]:
        """(source, partition, raw offset, known, stream time, key, value) of the events."""
        return [
            (*(int(h[n]) for n in ("source", "raw_partition", "raw_offset", "known", "stream")), k, v)
            for h, k, v in zip(self.headers, self.keys, self.values, strict=True)
            if h["kind"] == log_header.EVENT
        ]

    def content(self) -> list[tuple[Any, ...]]:
        """All but barriers, writers and numbers: what does not change when a writer dies."""
        return [
            (
                *(int(h[n]) for n in ("kind", "source", "raw_partition", "raw_offset", "known", "stream")),
                k,
                v[:5] + v[13 if k is None else 5 :],
            )
            for h, k, v in zip(self.headers, self.keys, self.values, strict=True)
            if h["kind"] != log_header.BARRIER
        ]

    def order(self) -> list[str]:
        """Ids of events; `|until` for promises, `||` for the end, `+model` for switches."""
        return [
            _name(int(h["kind"]), k, v)
            for h, k, v in zip(self.headers, self.keys, self.values, strict=True)
            if h["kind"] not in (log_header.BARRIER, log_header.SPEC_ADOPTED)
        ]


def _name(kind: int, key: bytes | None, value: bytes) -> str:
    if kind == log_header.PROGRESSED:
        said = wire.decode_datum(value[5:], fastavro.parse_schema(log.Progressed.SCHEMA))
        return "||" if said["ended"] else f"|{int(said['stream_time']) // SECOND}"
    if kind == log_header.MODEL_SWITCHED:
        return "+" + wire.decode_datum(value[5:], fastavro.parse_schema(log.ModelSwitched.SCHEMA))["model"]
    return (key or b"").decode()


class Writer:
    """One life of a writer: restores from the log and the places that were kept, then takes what it is given."""

    def __init__(
        self, log_: Log, spec: Bundle, lanes: Iterable[Lane], shard: int = 0, ring: KeyRing = NOBODY, kept: Places = NOWHERE
    ) -> None:
        self.log, self.outputs = log_, []
        state = State("world", shard)
        log_.follow(state, kept.count, ring)
        state.passed, state.floor = state.passed | kept.passed, state.floor | kept.floor
        log_.follow(state, len(log_.headers), ring)
        log_.append([barrier(state, spec, writer=len(log_.headers) + 7)])
        log_.restore(state, slice(-1, None), ring)
        if state.bundle is None:
            log_.append([adopt(state, spec)])
        self.shard: Shard = begin(state, compiled(spec, shard, spec.stream.shards), lanes)

    def take(self, *arrivals: Arrival, more: Iterable[Lane] = (), switches: Iterable[Switch] = (), now: int = NOW) -> Output:
        out = step(self.shard, arrivals, set(more), switches, now)
        self.log.append(out.records)
        self.outputs.append(out)
        for queue in self.shard.merge.queues.values():
            assert queue.held == sum(len(value) for rows in (*queue.ready, *queue.opened) for value in rows.values)
        return out

    @property
    def places(self) -> Places:
        """What may be kept once the broker has all that was said."""
        return Places(len(self.log.headers), dict(self.shard.state.passed), dict(self.shard.state.floor))

    @property
    def dead(self) -> list[Dead]:
        return [dead for out in self.outputs for dead in out.dead]

    @property
    def repeats(self) -> list[tuple[str, int]]:
        """(id, offset of the first) of every duplicate."""
        return [
            pair for out in self.outputs for part in out.repeats for pair in zip(part.rows.ids, part.original.tolist(), strict=True)
        ]
