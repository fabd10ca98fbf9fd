"""Spans of the control plane, after OpenTelemetry's messaging conventions. Control events are always traced.

An event's span follows from the `traceparent` in its headers, and what its handler says carries this span's: so one trace leads from
a cause to its run, version, approval and switch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tidemill.bus.control.service import Due
from tidemill.events import envelope
from tidemill.events.base import Event
from tidemill.events.dead import Record

_TRACER = trace.get_tracer("tidemill.control")
_CONTEXT = TraceContextTextMapPropagator()
_NAMED = ("stream", "model", "version", "run", "approval", "alert", "rollout", "artifact", "verdict", "position")
"""Fields of events that people look for."""

Attributes = dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Span:
    """The running span."""

    traceparent: str | None


@contextmanager
def taking(service: str, record: Record) -> Iterator[Span]:
    """Around a record's transaction."""
    read = envelope.parse(record.headers)
    attributes: Attributes = {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": record.topic,
        "messaging.destination.partition.id": str(record.partition),
        "messaging.kafka.offset": record.offset,
        "messaging.message.id": read.id,
        "tidemill.event.id": read.id,
        "tidemill.service": service,
    }
    with _span(f"process {record.topic}", trace.SpanKind.CONSUMER, attributes, read.traceparent) as span:
        yield span


@contextmanager
def firing(service: str, due: Due) -> Iterator[Span]:
    """Around a timer's transaction."""
    attributes: Attributes = {"tidemill.timer": due.name, "tidemill.subject": due.subject, "tidemill.service": service}
    with _span(f"timer {due.name}", trace.SpanKind.INTERNAL, attributes, due.traceparent) as span:
        yield span


@contextmanager
def acting(service: str, cause: str, traceparent: str | None) -> Iterator[Span]:
    """Around a transaction that the service begins of itself."""
    attributes: Attributes = {"tidemill.cause": cause, "tidemill.service": service}
    with _span(f"act {service}", trace.SpanKind.INTERNAL, attributes, traceparent) as span:
        yield span


def describe(event: Event) -> None:
    """Put what people look for onto the running span."""
    span = trace.get_current_span()
    for name in _NAMED:
        value = getattr(event, name, None)
        if isinstance(value, str | int):
            span.set_attribute(f"tidemill.{name}", value)


@contextmanager
def _span(name: str, kind: trace.SpanKind, attributes: Attributes, parent: str | None) -> Iterator[Span]:
    context = _CONTEXT.extract({"traceparent": parent}) if parent else Context()
    with _TRACER.start_as_current_span(name, context, kind, attributes):
        carrier: dict[str, str] = {}
        _CONTEXT.inject(carrier)
        yield Span(carrier.get("traceparent"))
