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
_SPEAKABLE: Final = 250_000_000_000_000_000
"""Within so many us of the epoch a time has a date (year 1 to 9999)."""


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


def times(source: Source, frame: pl.DataFrame, now: I64) -> Times:
    """The rows' times; far in the past where there is none."""
    rule = source.spec.known_at
    event = _micros(frame[source.spec.time])
    known = _micros(frame[rule]) if isinstance(rule, str) else event + (rule or 0)
    return Times(event, known, now)


def faults(source: Source, frame: pl.DataFrame, at: Times) -> Iterator[Fault]:
    """Every fault of a source's rows, that which counts first first."""
    yield _missing_id(frame[source.spec.id])
    yield from _time_faults(source, at)
    for name in source.finite:
        if name in frame.columns:
            yield Fault(
                errors.CHECK_FAILED,
                (~frame[name].is_finite()).fill_null(False).to_numpy(),
                _of(f"{name} is no finite number", frame, (name,)),
            )
    for rule in source.rules:
        if rule.reject:
            yield Fault(
                errors.CHECK_FAILED, _fails(rule.test.polars, frame), _of(f"not {rule.test.text}", frame, rule.test.columns)
            )


def warnings(source: Source, frame: pl.DataFrame, rows: Mask) -> Counter[tuple[str, str]]:
    """How many of the rows fail each check that only warns."""
    found = {rule.test.text: int((_fails(rule.test.polars, frame) & rows).sum()) for rule in source.rules if not rule.reject}
    return Counter({(source.name, text): count for text, count in found.items() if count})


def _missing_id(ids: pl.Series) -> Fault:
    return Fault(errors.MISSING_ID, (ids.is_null() | (ids == "")).fill_null(True).to_numpy(), lambda i: f"{ids.name} is empty")


def _time_faults(source: Source, at: Times) -> Iterator[Fault]:
    accept = source.spec.accept
    first, last = np.minimum(at.event, at.known), np.maximum(at.event, at.known)
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


def _fails(test: pl.Expr, frame: pl.DataFrame) -> Mask:
    return np.asarray(~frame.select(test.fill_null(True)).to_series().to_numpy())


def _of(text: str, frame: pl.DataFrame, columns: frozenset[str] | tuple[str, ...]) -> Callable[[int], str]:
    return lambda i: f"{text}: " + ", ".join(f"{name} = {frame[name][i]!r}" for name in sorted(columns))


def _micros(column: pl.Series) -> I64:
    return column.cast(pl.Int64).fill_null(-_FAR).clip(-_FAR, _FAR).to_numpy()


def _moment(us: int) -> str:
    us = int(us)
    if us == -_FAR:
        return "no time at all"
    return format_moment(us) if -60_000_000_000_000_000 < us < _SPEAKABLE else f"{us} us"
