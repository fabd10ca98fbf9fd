"""From merged pieces to the log's records: identity (R6), stream time (R7), sequence; and control records."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from services.ingest import errors
from services.ingest.model import I64, NEVER, Dead, Lane, Level, RawRows, State, Switch, Switched
from services.ingest.step import ids as table
from services.ingest.step import kernels
from services.ingest.step.plan import Plan
from tidemill.events import log, log_header, wire
from tidemill.events.base import Event
from tidemill.spec import Bundle


@dataclass(frozen=True, slots=True)
class Records:
    """Consecutive records for the log."""

    headers: npt.NDArray[np.void]
    """LOG_HEADER rows."""
    keys: list[str] | list[None]
    values: list[bytes]
    rows: RawRows | None = None
    """The events; None for a control record."""
    switch: Switch | None = None


@dataclass(frozen=True, slots=True)
class Repeats:
    """Rows that were in the log already; `original` is the log offset of each row's first, -1 where forgotten."""

    rows: RawRows
    original: I64


@dataclass
class Output:
    """What one step says, in order. The dead letters come first: the log may not move past them unsaid."""

    read: int = 0
    """How many of the records that arrived are this shard's."""
    dead: list[Dead] = field(default_factory=list)
    records: list[Records] = field(default_factory=list)
    repeats: list[Repeats] = field(default_factory=list)
    refused: list[tuple[Switch, str]] = field(default_factory=list)
    """Switches that came too late, with the reason."""
    warned: dict[tuple[str, str], int] = field(default_factory=dict)
    """Failed checks that only warn, by source and rule."""


def append_rows(state: State, plan: Plan, rows: RawRows, out: Output) -> None:
    """Judge merged rows against all that the log has, and append the new ones."""
    judged = _judged(state, plan, rows)
    state.last = max(state.last, (int(rows.key[-1]), int(rows.source[-1]), int(rows.partition[-1])))
    new = np.flatnonzero(judged["verdict"] == kernels.ACCEPTED)
    if len(new) < len(rows):
        _set_aside(plan, rows, judged, out)
    if len(new):
        fresh = rows if len(new) == len(rows) else rows.take(new)
        out.records.append(Records(_headers(state, fresh, judged["time"][new]), fresh.ids, fresh.values, fresh))


def append_level(state: State, plan: Plan, level: Level, out: Output) -> None:
    """log.Progressed."""
    state.time, state.known = max(state.time, level.until), max(state.known, level.until)
    if not state.replaying:
        state.floor.clear()  # a replay begins: its times are its own
    state.promised, state.replaying, state.last = level.until, not level.ended, (level.until, -1, -1)
    said = {"stream": state.stream, "ended": level.ended, "stream_time": float(level.until)}
    out.records.append(control(state, plan.bundle, log_header.PROGRESSED, log.Progressed, said))


def append_switch(state: State, plan: Plan, switch: Switch, now: int, out: Output) -> None:
    """log.ModelSwitched; expiry is judged here, once (R12), against `now` (wall time, us)."""
    event, before = switch.event, state.switches.get(switch.event.model)
    if before is not None and event.rollout <= before.event.rollout:
        out.refused.append((switch, "stale-rollout"))
    elif now > event.expires:
        out.refused.append((switch, "expired"))
    else:
        record = control(state, plan.bundle, log_header.MODEL_SWITCHED, log.ModelSwitched, event.model_dump(exclude=_PLACE))
        state.switches[event.model] = Switched(event, state.offset - 1, state.time)
        out.records.append(replace(record, switch=switch))


def adopted(state: State, bundle: Bundle) -> bool:
    """Whether the log's spec is this one, also in its schema ids, which are no part of the digest: folds write by them."""
    return state.bundle is not None and (state.bundle.digest, state.bundle.ids) == (bundle.digest, bundle.ids)


def adopt(state: State, bundle: Bundle) -> Records:
    """log.SpecAdopted: from here on `bundle` holds."""
    state.bundle = bundle
    said = {"stream": state.stream, "digest": bundle.digest, "content": bundle.to_json()}
    return control(state, bundle, log_header.SPEC_ADOPTED, log.SpecAdopted, said)


def barrier(state: State, bundle: Bundle, writer: int) -> Records:
    """log.Barrier: from here on only `writer` writes (R5). The state is not touched: it is to read the barrier in the log."""
    signed = writer - (writer >> 63 << 64)  # the payload's long has a sign, the header's writer has none
    said = {"stream": state.stream, "writer": signed}
    return control(replace(state, writer=writer), bundle, log_header.BARRIER, log.Barrier, said)


_PLACE = {"seq", "position", "stream_time"}


def control(state: State, bundle: Bundle, kind: int, type_: type[Event], said: dict[str, Any]) -> Records:
    """One control record at the log's end."""
    header = _next(state, 1)
    header["kind"], header["source"], header["raw_offset"] = kind, log_header.CONTROL, -1
    header["known"], header["stream"] = max(state.known, 0), state.time
    place = {"seq": float(state.seq), "position": -1.0, "stream_time": float(state.time)}
    event = type_.model_validate(place | said)
    return Records(header, [None], [wire.frame(bundle.ids[type_.full_name()], wire.datum(event))])


def _judged(state: State, plan: Plan, rows: RawRows) -> npt.NDArray[np.void]:
    """JUDGED of each row."""
    names, ids, judged = plan.names, state.ids, np.empty(len(rows), kernels.JUDGED)
    sources = np.empty(len(names), kernels.SOURCE)
    sources["horizon"], sources["newest"] = plan.horizons, [state.newest.get(name, NEVER) for name in names]
    table.reserve(ids, len(rows))
    passed = _before(rows, state.last) if state.replaying else np.zeros(len(rows), np.bool_)
    state.time = kernels.judge(
        rows.ident, rows.content, rows.source, rows.known, passed, sources, state.time, state.offset,
        ids.ring, ids.slots, ids.span, judged,
    )  # fmt: skip
    state.newest |= {name: time for name, time in zip(names, sources["newest"].tolist(), strict=True) if time != NEVER}
    return judged


def _before(rows: RawRows, last: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    """Rows of a replay that stand before its newest record: a restart reads them again."""
    key, source, partition = last
    tied = (rows.source < source) | ((rows.source == source) & (rows.partition < partition))
    return np.asarray((rows.key < key) | ((rows.key == key) & tied))


def _set_aside(plan: Plan, rows: RawRows, judged: npt.NDArray[np.void], out: Output) -> None:
    verdict, original = judged["verdict"], judged["original"]
    again = np.flatnonzero((verdict == kernels.DUPLICATE) | (verdict == kernels.PASSED))
    if len(again):
        out.repeats.append(Repeats(rows.take(again), original[again]))
    for i in np.flatnonzero(verdict == kernels.CONFLICT).tolist():
        lane = Lane(plan.names[rows.source[i]], int(rows.partition[i]))
        message = f"{rows.ids[i]!r} is in the log with other bytes, at offset {original[i]}"
        out.dead.append(Dead(lane, int(rows.offset[i]), errors.ID_CONFLICT, message, rows.origins[i]))


def _headers(state: State, rows: RawRows, times: I64) -> npt.NDArray[np.void]:
    state.known = max(state.known, int(rows.known.max()))
    header = _next(state, len(rows))
    header["kind"], header["source"], header["raw_partition"] = log_header.EVENT, rows.source, rows.partition
    header["known"], header["stream"], header["raw_offset"] = rows.known, times, rows.offset
    return header


def _next(state: State, count: int) -> npt.NDArray[np.void]:
    """So many fresh headers at the log's end, numbered."""
    header = np.zeros(count, log_header.LOG_HEADER)
    header["writer"] = state.writer
    header["seq"] = np.arange(state.seq + 1, state.seq + 1 + count)
    state.seq += count
    state.offset += count
    return header
