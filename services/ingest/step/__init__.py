"""The pure heart of ingest: raw records in, the log's records and dead letters out. No clock, no broker, no registry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from services.ingest.model import Arrival, Lane, Level, RawRows, State, Switch
from services.ingest.step import kernels
from services.ingest.step.append import Output, Records, Repeats, adopt, adopted, append_level, append_rows, append_switch, barrier
from services.ingest.step.merge import Merge
from services.ingest.step.plan import Plan, compiled
from services.ingest.step.reading import read, unknown_ids
from services.ingest.step.restore import restore

__all__ = [
    "Output",
    "Plan",
    "Records",
    "Repeats",
    "Shard",
    "adopt",
    "adopted",
    "barrier",
    "begin",
    "compiled",
    "read",
    "restore",
    "step",
    "unknown_ids",
    "warm_up",
]


@dataclass
class Shard:
    """One shard's writer: where its log stands, its spec, and what has arrived since."""

    state: State
    plan: Plan
    merge: Merge


def begin(state: State, plan: Plan, lanes: Iterable[Lane]) -> Shard:
    """A shard that has heard nothing since its log's end; raw records are to come from `state.passed` on."""
    return Shard(state, plan, Merge(state, plan, lanes))


def step(
    shard: Shard, arrivals: Iterable[Arrival], more: Collection[Lane] = (), switches: Iterable[Switch] = (), now: int = 0
) -> Output:
    """Take what has arrived, append what may go. The state changes in place.

    `more` are the lanes of which the broker has more, `switches` those that are ready and not yet in the log, `now` is wall
    time (us): it decides how long a silent lane is waited for and whether a switch has expired, nothing else.
    """
    out, warned = Output(), Counter[tuple[str, str]]()
    for arrival in arrivals:
        found = read(shard.plan, arrival)
        out.read += len(found.rows) + len(found.promises) + len(found.dead)
        out.dead += found.dead
        out.dead += shard.merge.arrive(arrival.lane, int(arrival.offsets[-1]) + 1, found.rows, found.promises, now)
        warned += found.warned
    for piece in shard.merge.release(more, list(switches), now):
        if isinstance(piece, RawRows):
            append_rows(shard.state, shard.plan, piece, out)
        elif isinstance(piece, Level):
            append_level(shard.state, shard.plan, piece, out)
        else:
            append_switch(shard.state, shard.plan, piece, now, out)
    for lane, (offset, floor) in shard.merge.passed().items():
        shard.state.passed[lane], shard.state.floor[lane] = offset, floor
    out.warned = dict(warned)
    return out


def warm_up() -> None:
    """Compile the kernels before the first event waits for them."""
    kernels.warm_up()
