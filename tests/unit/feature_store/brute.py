"""Rule R16 and the label join once more, in plain Python over a list of events. Shares no code with the fold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

MINUTE = 60_000_000
HOUR, DAY = 60 * MINUTE, 1440 * MINUTE


@dataclass
class Event:
    """One record of the log, at offset `offset`."""

    offset: int
    source: str
    id: str
    time: int
    known: int
    row: dict[str, Any]
    stream: int = 0
    """Stream time: the newest known time so far."""


def in_stream(events: list[Event]) -> list[Event]:
    """The events with their stream time."""
    newest = 0
    for event in events:
        newest = event.stream = max(newest, event.known)
    return events


def slide(window: int) -> int:
    """The tile of a window, for those that the tests use."""
    return {5 * MINUTE: 20_000_000, HOUR: 5 * MINUTE, 6 * HOUR: 15 * MINUTE, DAY: HOUR, 7 * DAY: HOUR}[window]


def kept(
    events: list[Event], key: Any, entity: str, step: int, window: int, lateness: int, memory: int, now: int
) -> tuple[list[Event], int | None]:
    """(events of the entity that were not too late when they came, its newest tile M): tile(e) > M - (W + L) / h, M before e.

    An entity that has been silent for `memory` was never seen: silent since its newest event's time, and since the stream time (`stream`
    of an event) when one last came. `now` is the stream time at which it is asked.
    """
    late, newest, until, found = -(-lateness // step), None, 0, []
    for event in events:
        if event.row[entity] != key:
            continue
        if newest is None or event.stream >= until + memory:
            newest, until, found = None, event.time, []
        tile = event.time // step
        if newest is None or tile > newest - (window // step + late):
            found.append(event)
        newest = tile if newest is None else max(newest, tile)
        until = max(until, event.time, event.stream)
    return ([], None) if newest is None or now >= until + memory else (found, newest)


def aggregate(agg: str, values: list[tuple[int, float]]) -> float:
    """An aggregate of (tile, value) in log order."""
    numbers = [value for _, value in values]
    if agg == "count":
        return float(len(numbers))
    if not numbers:
        return math.nan
    if agg == "last":
        newest = max(tile for tile, _ in values)
        return [value for tile, value in values if tile == newest][-1]
    if agg == "std":
        mean = math.fsum(numbers) / len(numbers)
        return math.sqrt(math.fsum((x - mean) ** 2 for x in numbers) / (len(numbers) - 1)) if len(numbers) > 1 else math.nan
    total = math.fsum(numbers)
    return {"sum": total, "mean": total / len(numbers), "min": min(numbers), "max": max(numbers)}[agg]


def value(
    events: list[Event],
    trigger: Event,
    source: str,
    entity: str,
    agg: str,
    of: Any,
    window: int,
    longest: int,
    lateness: int,
    where: Any = None,
) -> tuple[float, bool]:
    """(the feature's value for a trigger, whether the trigger was too late for it). `of` and `where` are functions of a row;
    `longest` is the longest window of the view.
    """
    key, step = trigger.row.get(entity), slide(window)
    if key is None:
        return math.nan, False
    adding = [
        event
        for event in events
        if event.offset < trigger.offset and event.source == source and (where is None or where(event.row))
    ]
    mine, newest = kept(adding, key, entity, step, window, lateness, 2 * (longest + lateness), trigger.stream)
    tile = trigger.time // step
    if newest is not None and tile < newest - -(-lateness // step):
        return math.nan, True
    inside = [
        (event.time // step, 0.0 if of is None else of(event.row))
        for event in mine
        if tile - window // step < event.time // step <= tile
    ]
    return aggregate(agg, [(at, float(x)) for at, x in inside if x is not None]), False


def joined(
    events: list[Event], trigger_source: str, label_source: str, match: str, label: Any, within: int, ended: bool
) -> list[tuple[str, int, int, float | None]]:
    """(what, trigger offset, by which offset, label). A label counts where it is known (stream time) within `within` of its trigger's event
    time; one that came first is remembered as long. It is that of all triggers that wait for it, or of the first that comes after it.
    """
    waiting: list[Event] = []
    early: list[Event] = []
    out: list[tuple[str, int, int, float | None]] = []
    for event in events:
        over = [trigger for trigger in waiting if trigger.time + within < event.stream]
        out += [("expired", trigger.offset, event.offset, None) for trigger in over]
        waiting = [trigger for trigger in waiting if trigger not in over]
        early = [other for other in early if other.stream + within >= event.stream]
        key = event.row.get(match)
        same = [other for other in early if key is not None and other.row[match] == key]
        if event.source == trigger_source:
            in_time = [other for other in same if other.stream <= event.time + within]
            if in_time:
                early.remove(in_time[0])
                out.append(_outcome(event, event, label(in_time[0].row)))
            else:
                waiting.append(event)
        elif event.source == label_source and key is not None:
            mine = [trigger for trigger in waiting if trigger.row[match] == key]
            out += [_outcome(trigger, event, label(event.row)) for trigger in mine]
            waiting = [trigger for trigger in waiting if trigger not in mine]
            early += [event] if not mine and not same else []
    if ended:
        out += [("source_ended", trigger.offset, len(events), None) for trigger in waiting]
    return out


def _outcome(trigger: Event, cause: Event, label: float | None) -> tuple[str, int, int, float | None]:
    return ("null_label" if label is None else "outcome", trigger.offset, cause.offset, label)
