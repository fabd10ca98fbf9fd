"""A writer's state from its log: the same state that writing it left behind (R5)."""

from __future__ import annotations

from contextlib import suppress

import fastavro
import numpy as np
import numpy.typing as npt

from services.ingest.model import ENTRY, I64, NEVER, Lane, State, Switched
from services.ingest.step import ids as table
from tidemill.errors import Refused
from tidemill.events import log, log_header, wire
from tidemill.events.blobs import Blobs
from tidemill.events.identity import hash64, hash64_many
from tidemill.models.rollout import check_switch
from tidemill.spec import Bundle
from tidemill.trust.keys import KeyRing


def restore(
    state: State,
    headers: npt.NDArray[np.void],
    offsets: I64,
    keys: Blobs,
    values: Blobs,
    ring: KeyRing,
) -> None:
    """Take consecutive valid records of the log (LOG_HEADER rows and what they head) into the state; `ring` are this process's keys."""
    controls = np.flatnonzero(headers["kind"] != log_header.EVENT).tolist()
    begin = 0
    for i in [*controls, len(headers)]:
        if i > begin:
            part = slice(begin, i)
            _events(state, headers[part], offsets[part], keys.chosen(part), values.chosen(part))
        if i < len(headers):
            _control(state, headers[i], int(offsets[i]), values[i], ring)
        begin = i + 1
    if len(headers):
        state.seq, state.time = state.seq + len(headers), int(headers["stream"][-1])
        state.writer, state.offset = int(headers["writer"][-1]), int(offsets[-1]) + 1


def _events(state: State, headers: npt.NDArray[np.void], offsets: I64, keys: Blobs, values: Blobs) -> None:
    assert state.bundle is not None  # a log's first event comes after its first spec
    order, sources = state.bundle.stream.order, state.bundle.stream.sources
    salts = np.array([hash64(name.encode()) for name in order], np.uint64)
    idents = hash64_many(keys) ^ salts[headers["source"]]
    longest = max(source.dedupe for source in sources.values())
    entries = np.empty(len(headers), ENTRY)
    entries["key"], entries["content"] = idents, hash64_many(values)
    entries["time"], entries["offset"] = headers["stream"], offsets
    table.recall(state.ids, entries, longest)
    state.known = max(state.known, int(headers["known"].max()))
    for index in np.unique(headers["source"]).tolist():
        mine = headers[headers["source"] == index]
        state.newest[order[index]] = max(state.newest.get(order[index], NEVER), int(mine["known"].max()))
        for partition in np.unique(mine["raw_partition"]).tolist():
            _lane(state, Lane(order[index], partition), mine[mine["raw_partition"] == partition])
    source, partition = int(headers[-1]["source"]), int(headers[-1]["raw_partition"])
    state.last = (state.floor[Lane(order[source], partition)], source, partition)


def _lane(state: State, lane: Lane, headers: npt.NDArray[np.void]) -> None:
    state.passed[lane] = max(state.passed.get(lane, 0), int(headers["raw_offset"].max()) + 1)
    promised = state.promised if state.replaying else NEVER
    state.floor[lane] = max(state.floor.get(lane, NEVER), int(headers["known"].max()), promised)


def _control(state: State, header: np.void, offset: int, value: bytes, ring: KeyRing) -> None:
    kind = int(header["kind"])
    if kind == log_header.SPEC_ADOPTED:
        state.bundle = Bundle.from_json(str(_read(log.SpecAdopted, value)["content"]))
    elif kind == log_header.MODEL_SWITCHED:
        event = log.ModelSwitched.model_validate(_read(log.ModelSwitched, value))
        _switched(state, Switched(event, offset, int(header["stream"])), ring)
    elif kind == log_header.PROGRESSED:
        said = log.Progressed.model_validate(_read(log.Progressed, value))
        if not state.replaying:
            state.floor.clear()
        state.promised, state.replaying = int(said.stream_time), not said.ended
        state.last, state.known = (state.promised, -1, -1), max(state.known, state.promised)


def _switched(state: State, found: Switched, ring: KeyRing) -> None:
    """Take a switch, unless serving ignores it too: a forged one with a high rollout number would make all genuine orders stale."""
    newest = state.switches.get(found.event.model)
    with suppress(Refused):
        check_switch(found.event, state.bundle, newest.event.rollout if newest else 0, ring)
        state.switches[found.event.model] = found


def _read(kind: type[log.SpecAdopted] | type[log.ModelSwitched] | type[log.Progressed], value: bytes) -> dict[str, object]:
    return wire.decode_datum(value[5:], fastavro.parse_schema(kind.SCHEMA, named_schemas={}))
