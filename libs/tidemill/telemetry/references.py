"""How a span is named from afar: W3C `traceparent`, and the arrays in which folds carry such names."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.events.identity import hash64, span_ids, trace_id

VECTOR: Final = "vector"
"""The hop whose spans outcomes link to."""

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_LOW: Final = (1 << 64) - 1


class Reference(NamedTuple):
    """A span: its trace and itself."""

    trace: int
    span: int


def traceparent(reference: Reference) -> str:
    """The W3C header of a sampled span."""
    return f"00-{reference.trace:032x}-{reference.span:016x}-01"


def parse_traceparent(text: str | bytes | None) -> Reference | None:
    """The span that a header names; None for an absent or a malformed one."""
    if text is None:
        return None
    found = _TRACEPARENT.fullmatch(text.decode("ascii", "replace") if isinstance(text, bytes) else text)
    reference = Reference(int(found[1], 16), int(found[2], 16)) if found else None
    return reference if reference and reference.trace and reference.span else None


def link(text: str | bytes | None) -> tuple[int, int, int]:
    """A header as the values of a `fold.LINK` row; zeros where it names nothing."""
    found = parse_traceparent(text)
    return link_to(found) if found else (0, 0, 0)


def link_to(span: Reference) -> tuple[int, int, int]:
    """A span as the values of a `fold.LINK` row."""
    return span.trace >> 64, span.trace & _LOW, span.span


def linked(row: np.void) -> Reference | None:
    """The span of a `fold.LINK` row."""
    found = Reference(int(row["trace_high"]) << 64 | int(row["trace_low"]), int(row["span"]))
    return found if found.span else None


def alert_of(stream: str, alert: str) -> Reference:
    """The span under which an alert was raised: a trace of its own, so that a run that it causes windows later can link to it."""
    return Reference(trace_id(stream, "monitoring", alert), hash64(alert.encode()))


def vectors_of(rows: npt.NDArray[np.void], partition: int) -> list[Reference | None]:
    """The spans of the vectors of the triggers that `fold.ABOUT` rows name."""
    traces = [high << 64 | low for high, low in zip(rows["trace_high"].tolist(), rows["id_hash"].tolist(), strict=True)]
    spans = span_ids([(trace, VECTOR, partition, at) for trace, at in zip(traces, rows["position"].tolist(), strict=True)])
    return [Reference(trace, span) if trace & _LOW else None for trace, span in zip(traces, spans, strict=True)]
