"""Traces and logs of every process: which spans there are, under which ids, and where they go.

Data plane: an event's trace id follows from its stream, source and id, a hop's span id from the trace and the record's place. So
every service knows parent and child without asking, and a repeated piece of work repeats its ids. Control plane: each event carries
its `traceparent`, and every one is traced.
"""

from tidemill.telemetry.logs import setup_logs
from tidemill.telemetry.references import Reference, link, parse_traceparent, traceparent
from tidemill.telemetry.tracing import (
    ControlSpan,
    Moment,
    causes_of,
    control_span,
    facts_of,
    new_reference,
    now,
    record_hop,
    record_span,
    setup,
    share,
    shutdown,
    trace_high,
    tracing,
)

__all__ = [
    "ControlSpan",
    "Moment",
    "Reference",
    "causes_of",
    "control_span",
    "facts_of",
    "link",
    "new_reference",
    "now",
    "parse_traceparent",
    "record_hop",
    "record_span",
    "setup",
    "setup_logs",
    "share",
    "shutdown",
    "trace_high",
    "traceparent",
    "tracing",
]
