"""Spans of the control plane, after OpenTelemetry's messaging conventions: `process T` around a transaction, `send T` per event said.

What a handler says bears the `traceparent` of its `send`: so one trace leads from a cause to its run, version, approval and switch.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from tidemill.bus.control.service import Due, Meta
from tidemill.events import envelope
from tidemill.events.base import Event
from tidemill.events.dead import Record
from tidemill.telemetry import ControlSpan, causes_of, control_span, facts_of


def taking(service: str, record: Record) -> AbstractContextManager[ControlSpan]:
    """Around a record's transaction."""
    read = envelope.parse(record.headers)
    attributes: dict[str, str | int] = {
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
    return control_span(f"process {record.topic}", read.traceparent, attributes)


def firing(service: str, due: Due) -> AbstractContextManager[ControlSpan]:
    """Around a timer's transaction."""
    attributes = {"tidemill.timer": due.name, "tidemill.subject": due.subject, "tidemill.service": service}
    return control_span(f"timer {due.name}", due.traceparent, attributes, kind="internal")


def acting(service: str, cause: str, traceparent: str | None) -> AbstractContextManager[ControlSpan]:
    """Around a transaction that the service begins of itself."""
    attributes = {"tidemill.cause": cause, "tidemill.service": service}
    return control_span(f"act {service}", traceparent, attributes, kind="internal")


def sending(topic: str, event_id: str, meta: Meta, event: Event) -> str:
    """The `traceparent` of an event that is said."""
    attributes = {
        "messaging.system": "kafka",
        "messaging.operation.type": "send",
        "messaging.operation.name": "send",
        "messaging.destination.name": topic,
        "messaging.message.id": event_id,
    }
    said = {**attributes, **facts_of(event, event_id)}
    with control_span(f"send {topic}", meta.traceparent, said, causes_of(event), kind="producer") as span:
        return span.traceparent
