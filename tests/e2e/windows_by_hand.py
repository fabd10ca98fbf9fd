"""Rule R16 once more, in plain Python over a real log. Knows the stream's file and the topics' bytes, and none of Tidemill's code."""

from __future__ import annotations

import math
import re
import struct
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import accumulate
from typing import Any

from tests.e2e.plain_reader import Record

MINUTE = 60_000_000
HOUR, DAY = 60 * MINUTE, 1440 * MINUTE
UNITS = {"m": MINUTE, "h": HOUR, "d": DAY}
LATENESS = HOUR
"""Of a view that does not say how late its events may come."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HEADER = struct.Struct("<BBHQqqqq")
"""Of a log record: kind, source, raw partition, writer, sequence, known time, stream time, raw offset."""
IS_EVENT, IS_BARRIER = 0, 1


@dataclass(frozen=True, slots=True)
class Event:
    """One accepted event, at its place in the log."""

    offset: int
    source: str
    id: str
    time: int
    row: dict[str, Any]


def events(log: Iterable[Record], spec: dict[str, Any]) -> list[Event]:
    """The events that count: those of the writer of the last barrier before them (R5)."""
    found, valid = [], None
    for record in log:
        kind, source, _, writer, *_ = HEADER.unpack(record.headers["tm"])
        if kind == IS_BARRIER:
            valid = writer
        elif kind == IS_EVENT and writer == valid:
            name = spec["order"][source]
            time = (record.fields[spec["sources"][name]["time"]] - EPOCH) // timedelta(microseconds=1)
            found.append(Event(record.offset, name, record.key or "", time, record.fields))
    return found


def duration(text: str) -> int:
    """Microseconds."""
    return int(text[:-1]) * UNITS[text[-1]]


def slide(window: int) -> int:
    """A twelfth of a window up to an hour, a 24th up to a day, else an hour; rounded down to whole minutes that divide both the hour
    and the window.
    """
    wanted = window // 12 if window <= HOUR else min(window // 24, HOUR)
    return max(n * MINUTE for n in range(1, 61) if 60 % n == 0 and n * MINUTE <= wanted and window % (n * MINUTE) == 0)


def values_of(text: str | None) -> Callable[[dict[str, Any]], float | None]:
    """What a feature aggregates: every row, a column, or whether a column is greater than a number."""
    if text is None:
        return lambda row: 1.0
    column, bound = re.fullmatch(r"(\w+)(?: > (\d+))?", text).groups()  # type: ignore[union-attr]
    return lambda row: None if row[column] is None else float(row[column] if bound is None else row[column] > int(bound))


@dataclass
class Entity:
    """The events of one entity in one view, in log order."""

    offsets: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    @cached_property
    def newest(self) -> list[int]:
        """The newest event time up to each event."""
        return list(accumulate(self.times, max))

    def newest_tile(self, before: int, step: int) -> int | None:
        """The newest tile among the events before a log offset."""
        at = bisect_left(self.offsets, before)
        return self.newest[at - 1] // step if at else None


@dataclass
class Window:
    """One feature over one window, of all entities."""

    name: str
    agg: str
    of: Callable[[dict[str, Any]], float | None]
    length: int
    lateness: int
    entities: dict[Any, Entity]
    _kept: dict[Any, list[tuple[int, int, float]]] = field(default_factory=dict)

    def value(self, entity: Any, trigger: Event) -> tuple[float, bool]:
        """(the value for a trigger, whether it came too late for one)."""
        if entity is None:
            return math.nan, False
        step, seen = slide(self.length), self.entities.get(entity, Entity())
        tile, newest = trigger.time // step, seen.newest_tile(trigger.offset, step)
        if newest is not None and tile < newest - self.lateness // step:
            return math.nan, True
        kept = self._kept_of(entity, seen, step)
        begin = bisect_right(kept, (tile - self.length // step, math.inf, 0.0))
        end = bisect_right(kept, (tile, math.inf, 0.0))
        return aggregate(self.agg, [value for _, offset, value in kept[begin:end] if offset < trigger.offset]), False

    def _kept_of(self, entity: Any, seen: Entity, step: int) -> list[tuple[int, int, float]]:
        """(tile, log offset, value) of the kept events: not older than window and lateness allow when they came."""
        if entity not in self._kept:
            found, reach, newest = [], (self.length + self.lateness) // step, -math.inf
            for offset, time, row in zip(seen.offsets, seen.times, seen.rows, strict=True):
                tile, value = time // step, self.of(row)
                if tile > newest - reach and value is not None:
                    found.append((tile, offset, value))
                newest = max(newest, tile)
            self._kept[entity] = sorted(found)
        return self._kept[entity]


def aggregate(agg: str, values: list[float]) -> float:
    """An aggregate of values, oldest tile first, in log order inside a tile."""
    count = len(values)
    if agg == "count":
        return float(count)
    if count == 0 or (agg == "std" and count == 1):
        return math.nan
    if agg == "last":
        return values[-1]
    if agg in ("min", "max"):
        return min(values) if agg == "min" else max(values)
    mean = math.fsum(values) / count
    if agg == "std":
        return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    return {"sum": math.fsum(values), "mean": mean}[agg]


@dataclass
class View:
    """One view's windows and the column that finds the entity."""

    column: str
    windows: list[Window]


def views(spec: dict[str, Any], log: list[Event]) -> list[View]:
    """Every view of the stream's file, over the whole log."""
    return [_view(name, said, spec["entities"][said["entity"]], log) for name, said in spec["views"].items()]


def _view(name: str, said: dict[str, Any], column: str, log: list[Event]) -> View:
    entities: dict[Any, Entity] = defaultdict(Entity)
    for event in log:
        if event.source == said["source"] and event.row[column] is not None:
            entity = entities[event.row[column]]
            entity.offsets.append(event.offset)
            entity.times.append(event.time)
            entity.rows.append(event.row)
    lateness = duration(said["lateness"]) if "lateness" in said else LATENESS
    windows = [
        Window(f"{name}__{feature}__{over}", how["agg"], values_of(how.get("of")), duration(over), lateness, dict(entities))
        for feature, how in said["features"].items()
        for over in ([how["over"]] if isinstance(how["over"], str) else how["over"])
    ]
    return View(column, windows)


def vector(trigger: Event, of: list[View]) -> tuple[dict[str, float], bool]:
    """(every window feature of a trigger, whether any view calls it late)."""
    found = {window.name: window.value(trigger.row[view.column], trigger) for view in of for window in view.windows}
    return {name: value for name, (value, _) in found.items()}, any(late for _, late in found.values())
