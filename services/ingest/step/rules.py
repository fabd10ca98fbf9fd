"""What can be wrong with a decoded event on its own: id, times (R7), numbers, declared checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from services.ingest import errors
from services.ingest.model import I64
from services.ingest.step.plan import Source
from tidemill.spec import format_moment

Mask = npt.NDArray[np.bool_]

_FAR: Final = 2**61
"""Times beyond (us) would overflow when something is added to them; no accepted time is near."""
_SPEAKABLE: Final = 60_000_000_000_000_000
"""Within so many us of the epoch (1900 years) a time has a date."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to fail: which rows do, and what to tell of a row."""

    reason: str
    failed: Mask
    message: Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Times:
    """Per row, us."""

    event: I64
    known: I64
    """When it was known (R9)."""
    now: I64
    """When the broker had it."""

    @property
    def latest(self) -> I64:
        """What must not be too far ahead."""
        return np.maximum(self.event, self.known)


@dataclass(frozen=True, slots=True)
class Events:
    """Decoded events of one source, as the rules see them."""

    source: Source
    frame: pl.DataFrame
    ids: list[str | None]
    times: Times
    failed: list[Mask]
    """Per rule of the source: which events fail it."""


def events(source: Source, frame: pl.DataFrame, now: I64) -> Events:
    """The columns that the rules need; one trip through polars, since a single event pays for each."""
    rule = source.spec.known_at
    event = _micros(frame[source.spec.time])
    # what is here is known: a delay, which is for history, does not put a live event's known time into the future
    known = _micros(frame[rule]) if isinstance(rule, str) else np.minimum(event + (rule or 0), np.maximum(event, now))
    passes = frame.select(source.tests) if source.tests else frame
    failed = [~passes[str(i)].to_numpy() for i in range(len(source.tests))]
    return Events(source, frame, frame[source.spec.id].to_list(), Times(event, known, now), failed)


def faults(found: Events) -> Iterator[Fault]:
    """Every fault of a source's events, that which counts first first."""
    source, frame = found.source, found.frame
    missing = np.array([not one for one in found.ids], np.bool_)
    yield Fault(errors.MISSING_ID, missing, lambda i: f"{source.spec.id} is empty")
    yield from _time_faults(source, found.times)
    yield from _number_faults(source, frame)
    for rule, failed in zip(source.rules, found.failed, strict=True):
        if rule.reject:
            yield Fault(errors.CHECK_FAILED, failed, _of(f"not {rule.test.text}", frame, rule.test.columns))


def warnings(found: Events, among: Mask) -> Counter[tuple[str, str]]:
    """How many of some events fail each check that only warns, by source and check."""
    counts: Counter[tuple[str, str]] = Counter()
    for rule, failed in zip(found.source.rules, found.failed, strict=True):
        if not rule.reject and (count := int((failed & among).sum())):
            counts[found.source.name, rule.test.text] = count
    return counts


def _time_faults(source: Source, at: Times) -> Iterator[Fault]:
    accept = source.spec.accept
    first, last = np.minimum(at.event, at.known), at.latest
    limit = at.now + accept.ahead
    yield Fault(
        errors.TIME_OUT_OF_RANGE,
        first < accept.from_,
        lambda i: f"{_moment(first[i])} is before {_moment(accept.from_)}, from which on the source is accepted",
    )
    yield Fault(
        errors.TIME_OUT_OF_RANGE,
        last > limit,
        lambda i: f"{_moment(last[i])} is after {_moment(limit[i])}, which is as far ahead as the source may be",
    )


def _number_faults(source: Source, frame: pl.DataFrame) -> Iterator[Fault]:
    for name, may_lack in source.finite.items():
        column = frame.get_column(name, default=None)
        if column is None or (may_lack and column.dtype.is_integer()):
            continue
        infinite = ~np.isfinite(column.to_numpy())
        if may_lack and column.null_count():
            infinite &= column.is_not_null().to_numpy()
        yield Fault(errors.CHECK_FAILED, infinite, _of(f"{name} is no finite number", frame, (name,)))


def _of(text: str, frame: pl.DataFrame, columns: frozenset[str] | tuple[str, ...]) -> Callable[[int], str]:
    return lambda i: f"{text}: " + ", ".join(f"{name} = {frame[name][i]!r}" for name in sorted(columns))


def _micros(column: pl.Series) -> I64:
    """Instants, us; far in the past where there is none."""
    values = column.fill_null(-_FAR).to_numpy() if column.null_count() else column.to_numpy()
    return np.asarray(np.clip(values.astype(np.int64, copy=False), -_FAR, _FAR))


def speakable(us: int) -> bool:
    """Whether a time (us) has a date."""
    return -_SPEAKABLE < us < _SPEAKABLE


def _moment(us: int) -> str:
    us = int(us)
    if us == -_FAR:
        return "no time at all"
    return format_moment(us) if speakable(us) else f"{us} us"
