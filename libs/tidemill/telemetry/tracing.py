"""Spans by hand around the loops: their ids, their attributes, their export."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, Tracer, set_span_in_context
from opentelemetry.trace.status import Status, StatusCode

from tidemill.events.identity import hash64, span_id
from tidemill.telemetry.logs import setup_logs
from tidemill.telemetry.references import Reference, alert_of, parse_traceparent, traceparent

if TYPE_CHECKING:
    from tidemill.events.base import Event
    from tidemill.settings import Settings

Attributes = Mapping[str, str | int | float | bool | None]

_SCOPE: Final = InstrumentationScope("tidemill")
_LINKS: Final = 1024
"""The most of a span, whose newest are kept: of a batch not every record's."""
EVENT_ID: Final = "tidemill.event.id"
_FACTS: Final = (
    "stream",
    "source",
    "model",
    "version",
    "run",
    "cause_kind",
    "cause_id",
    "cause_detail",
    "approval",
    "alert",
    "order",
    "rollout",
    "artifact",
    "report",
    "position",
)
_KINDS: Final = {
    "consumer": SpanKind.CONSUMER,
    "producer": SpanKind.PRODUCER,
    "internal": SpanKind.INTERNAL,
    "client": SpanKind.CLIENT,
}
_OTLP: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Moment(NamedTuple):
    """Begin and end of a span, ns since the epoch."""

    begin: int
    end: int


def now() -> int:
    """The wall clock as spans use it, ns since the epoch."""
    return time.time_ns()


def new_reference(trace: int = 0) -> Reference:
    """A fresh span, of a fresh trace where none is given."""
    ids = RandomIdGenerator()
    return Reference(trace or ids.generate_trace_id(), ids.generate_span_id())


class _Ids(RandomIdGenerator):
    """Random ids, or those that the caller gave for the next span of this thread."""

    def __init__(self) -> None:
        self.given = threading.local()

    def generate_trace_id(self) -> int:
        reference = getattr(self.given, "reference", None)
        return reference.trace if reference else super().generate_trace_id()

    def generate_span_id(self) -> int:
        reference = getattr(self.given, "reference", None)
        return reference.span if reference else super().generate_span_id()

    def is_trace_id_random(self) -> bool:
        return False


@dataclass
class _Tracing:
    provider: TracerProvider
    processor: BatchSpanProcessor
    tracer: Tracer
    ids: _Ids
    share: float


_current: _Tracing | None = None


def setup(service: str, settings: Settings) -> None:
    """Logs and spans of this process from now on, under the service's name.

    Spans go to the OTLP endpoint that the environment names (`OTEL_EXPORTER_OTLP_ENDPOINT`), else to a bounded file in the data
    directory. A span that finds the queue full is lost, never waited for.
    """
    global _current
    setup_logs(service, settings.log_level)
    shutdown()
    ids = _Ids()
    resource = Resource.create({"service.name": service, "service.namespace": "tidemill"})
    provider = TracerProvider(ALWAYS_ON, resource, False, span_limits=SpanLimits(max_links=_LINKS), id_generator=ids)
    processor = BatchSpanProcessor(_exporter(service, settings), 16_384, 1_000, 512)
    provider.add_span_processor(processor)
    _current = _Tracing(provider, processor, provider.get_tracer(_SCOPE.name), ids, settings.trace_sample)


def shutdown(seconds: float = 2.0) -> None:
    """Export what is left, within so many seconds; afterwards there are no spans until the next `setup`."""
    global _current
    ended, _current = _current, None
    if ended is not None:
        ending = threading.Thread(target=ended.provider.shutdown, daemon=True)  # a collector that is away must not hold a process
        ending.start()
        ending.join(seconds)


def tracing() -> bool:
    """Whether this process makes spans."""
    return _current is not None


def share() -> float:
    """The share of events that are traced; 0 before `setup`."""
    return _current.share if _current else 0.0


@cache
def trace_high(stream: str, source: str) -> int:
    """The upper 64 bits of the trace ids of a source's events; the lower ones are `hash64(id)`."""
    return hash64(f"{stream}/{source}".encode())


def record_hop(
    hop: str,
    trace: int,
    place: tuple[int, int],
    moment: Moment,
    parent: Reference | None = None,
    links: Iterable[Reference] = (),
    attributes: Attributes | None = None,
    kind: str = "internal",
) -> Reference:
    """One hop of a sampled event, after it was done. `place` is (partition, position) and gives the span its id.

    `raw` and `log` are placed by the raw record's partition and offset, what is behind the log by the log's.
    A parent of another trace becomes a link.
    """
    reference = Reference(trace, span_id(trace, hop, *place))
    return record_span(hop, reference, moment, parent, links, attributes, kind)


def record_span(
    name: str,
    reference: Reference,
    moment: Moment,
    parent: Reference | None = None,
    links: Iterable[Reference] = (),
    attributes: Attributes | None = None,
    kind: str = "internal",
) -> Reference:
    """One span with a given id, after it was done.

    It is given to the exporter as the tracer would give it. The tracer's own way, a span that can still be added to, takes five times as long: while a
    log is caught up that was a seventh of the feature store's work.
    """
    if _current is not None:
        parent, links = _hung(reference, parent, links)
        span = ReadableSpan(
            name, _context(reference), _context(parent) if parent else None, _current.provider.resource, _said(attributes or {}),
            links=[Link(_context(one)) for one in links[-_LINKS:]], kind=_KINDS[kind], start_time=moment.begin, end_time=moment.end,
            instrumentation_scope=_SCOPE,
        )  # fmt: skip
        _current.processor.on_end(span)
    return reference


@dataclass
class ControlSpan:
    """A piece of work on a control event, while it is done."""

    reference: Reference
    span: Span | None = None
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def traceparent(self) -> str:
        """What the events that come of it bear as their header."""
        return traceparent(self.reference)

    def set(self, attributes: Attributes) -> None:
        """Say more about it."""
        if self.span is not None:
            self.span.set_attributes(_said(attributes))


@contextmanager
def control_span(
    name: str,
    cause: str | bytes | None = None,
    attributes: Attributes | None = None,
    links: Iterable[str | bytes | None] = (),
    kind: str = "consumer",
) -> Iterator[ControlSpan]:
    """A span around work in the control plane: `process training.run-completed.v1`.

    `cause` is the `traceparent` of the event that led to it; without one a new trace begins. `links` are such headers too. An error
    marks the span and goes on.
    """
    parent = parse_traceparent(cause)
    if _current is None:  # a process without spans, such as a command: what it says hangs on what led to it
        yield ControlSpan(parent or new_reference())
        return
    reference = new_reference(parent.trace if parent else 0)
    named = [found for text in links if (found := parse_traceparent(text))]
    span = _begin(_current, name, reference, parent, named, attributes, kind, now())
    try:
        yield ControlSpan(reference, span)
    except BaseException as error:
        span.record_exception(error)
        span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        raise
    finally:
        span.end()


def facts_of(event: Event, event_id: str | None = None) -> dict[str, str | int | float | bool | None]:
    """What a control event says about itself, as attributes (`tidemill.run`, `tidemill.model`, ...)."""
    found = {f"tidemill.{name}": getattr(event, name, None) for name in _FACTS}
    return {EVENT_ID: event_id, **found}


def causes_of(event: Event) -> list[str]:
    """Headers of the spans of what an event names as its cause, beside the event that led to it: an alert of an earlier window."""
    if getattr(event, "cause_kind", None) != "alert":
        return []
    return [traceparent(alert_of(getattr(event, "stream", ""), getattr(event, "cause_id", "")))]


def _begin(
    current: _Tracing,
    name: str,
    reference: Reference,
    parent: Reference | None,
    links: Iterable[Reference],
    attributes: Attributes | None,
    kind: str,
    begin: int,
) -> Span:
    parent, named = _hung(reference, parent, links)
    around = set_span_in_context(NonRecordingSpan(_context(parent)), Context()) if parent else Context()
    current.ids.given.reference = reference
    try:
        return current.tracer.start_span(
            name, around, _KINDS[kind], _said(attributes or {}), [Link(_context(one)) for one in named], begin
        )
    finally:
        current.ids.given.reference = None


def _hung(reference: Reference, parent: Reference | None, links: Iterable[Reference]) -> tuple[Reference | None, list[Reference]]:
    """A span's parent and links: a parent of another trace is a link."""
    if parent is not None and parent.trace != reference.trace:
        return None, [parent, *links]
    return parent, [*links]


def _context(reference: Reference) -> SpanContext:
    return SpanContext(reference.trace, reference.span, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _said(attributes: Attributes) -> dict[str, str | int | float | bool]:
    return {name: value for name, value in attributes.items() if value is not None}


def _exporter(service: str, settings: Settings) -> SpanExporter:
    if any(os.environ.get(name) for name in _OTLP):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    from tidemill.telemetry.files import FileExporter, traces_dir

    return FileExporter(traces_dir(settings.data_dir) / f"{service}.jsonl")
