"""Figures from topics: how many, from when to when, how long between two topics."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

import numpy as np

from tidemill.bus.consumer import read_to_end, reader, watermarks
from tidemill.settings import Settings


@dataclass(frozen=True)
class Span:
    """A topic's records: how many, when the first and the last was appended (ms), how large they are on average (bytes)."""

    count: int
    first: int
    last: int
    size: int

    def rate(self, events: int) -> float:
        """Events per second over the span."""
        return events / max(self.last - self.first, 1) * 1000


def span_of(settings: Settings, topic: str, skip: int = 0) -> Span:
    """All records of a topic; `skip` leaves the first ones out of the span (control records before the first event)."""
    times, sizes = [], []
    for batch in read_to_end(settings, topic):
        times += [message.timestamp()[1] for message in batch]
        sizes += [len(message.value() or b"") for message in batch]
    return Span(len(times) - skip, times[skip], times[-1], int(np.mean(sizes[skip:])))


def total(settings: Settings, topic: str) -> int:
    """How many records a topic holds."""
    consumer = reader(settings, "bench")
    try:
        return sum(high - low for low, high in watermarks(consumer, topic).values())
    finally:
        consumer.close()


def wait(settings: Settings, topic: str, wanted: int, seconds: float = 900.0) -> None:
    """Return when a topic holds so many records."""
    until, consumer = time.monotonic() + seconds, reader(settings, "bench")
    try:
        while (found := sum(high - low for low, high in watermarks(consumer, topic).values())) < wanted:
            if time.monotonic() > until:
                raise TimeoutError(f"{found} of {wanted} records in {topic} after {seconds:.0f} s")
            time.sleep(0.2)
    finally:
        consumer.close()


def latencies(settings: Settings, begin: str, end: str, skip: int) -> tuple[float, float]:
    """(p50, p99) in ms from a record's append in `begin` to that of the record with its key in `end`, without the first `skip`."""
    sent = [(message.key(), message.timestamp()[1]) for batch in read_to_end(settings, begin) for message in batch if message.key()]
    started = dict(sent[skip:])
    came = ((message.key(), message.timestamp()[1]) for batch in read_to_end(settings, end) for message in batch)
    p50, p99 = np.percentile([at - started[key] for key, at in came if key in started], [50, 99])
    return float(p50), float(p99)


def scores_of(settings: Settings, topic: str) -> dict[str, float]:
    """A peer's predictions by event id."""
    rows = [json.loads(message.value() or b"{}") for batch in read_to_end(settings, topic) for message in batch]
    return {row["id"]: row["score"] for row in rows}
