"""What handlers say, as rows of the outbox and of the timers, under ids that follow from their cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from psycopg import Connection

from tidemill.bus.control import journal, spans
from tidemill.bus.control.service import Due, Meta, Saying, Timer, ToStream
from tidemill.bus.control_client import topic_name
from tidemill.errors import Rejected
from tidemill.events import envelope, wire
from tidemill.events.base import Event
from tidemill.events.dead import Record, dead_letter
from tidemill.events.identity import event_id
from tidemill.events.schema_registry import Registry


class Outbox:
    """Writes in the transaction that it is given; the relay sends what is there."""

    def __init__(self, service: str, registry: Registry) -> None:
        self._service, self._registry, self._version = service, registry, version("tidemill")

    def say(self, connection: Connection[Any], meta: Meta, said: Sequence[Saying]) -> None:
        """All that one handler says: the same cause gives the same ids, however often it is handled."""
        ordinals: Counter[tuple[str, str]] = Counter()
        for saying in said:
            kind, subject = _kind(saying), _subject(saying)
            number = event_id(_cause(meta), kind, subject, ordinals[kind, subject])
            ordinals[kind, subject] += 1
            if isinstance(saying, Timer):
                journal.plan(connection, Due(number, saying.name, saying.subject, saying.payload, saying.at, meta.traceparent))
            else:
                journal.say(connection, self._letter(number, meta, saying))

    def bury(self, connection: Connection[Any], record: Record, meta: Meta, error: Rejected) -> None:
        """A dead letter."""
        dead = dead_letter(record, error, self._service, self._version, meta.now)
        journal.say(connection, self._letter(dead.id, meta, dead))

    def _letter(self, number: str, meta: Meta, saying: Event | ToStream) -> journal.Letter:
        to = saying if isinstance(saying, ToStream) else None
        event = to.event if to else saying
        assert isinstance(event, Event)
        topic = topic_name(type(event), to.stream if to else None)
        return journal.Letter(
            id=number,
            topic=topic,
            partition=to.partition if to else None,
            key=event.kafka_key(),
            value=wire.encode(event, self._registry),
            headers=self._headers(number, topic, meta, event),
        )

    def _headers(self, number: str, topic: str, meta: Meta, event: Event) -> envelope.Headers:
        traceparent = spans.sending(topic, number, meta, event)
        return envelope.headers(number, self._service, event.ce_type(), meta.now, traceparent, meta.id)


def _cause(meta: Meta) -> str:
    """What names the cause: an event's id alone does not, since another topic may hold an event of the same id."""
    return f"{meta.topic}/{meta.id}" if meta.topic else meta.id


def _kind(saying: Saying) -> str:
    if isinstance(saying, Timer):
        return f"timer:{saying.name}"
    return (saying.event if isinstance(saying, ToStream) else saying).ce_type()


def _subject(saying: Saying) -> str:
    if isinstance(saying, Timer):
        return saying.subject
    if isinstance(saying, ToStream):
        return f"{saying.stream}/{saying.partition}"
    return (saying.kafka_key() or b"").decode()
