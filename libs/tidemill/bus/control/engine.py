"""One event, one transaction, one effect."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

from psycopg import Connection, DataError, OperationalError
from psycopg.errors import ProgramLimitExceeded
from psycopg_pool import ConnectionPool

from tidemill.bus.control import journal, spans
from tidemill.bus.control.outbox import Outbox
from tidemill.bus.control.service import ControlService, Due, Meta, Parked, Saying, Transaction
from tidemill.bus.control_client import topic_name
from tidemill.bus.patience import Patience, Stopped
from tidemill.errors import Rejected, Transient
from tidemill.events import envelope, wire
from tidemill.events.base import Event
from tidemill.events.dead import Record
from tidemill.events.schema_registry import Registry
from tidemill.telemetry import ControlSpan, facts_of

logger = logging.getLogger(__name__)

MOST_PARKED = 200
"""Anybody who may write to a topic can invent events whose antecedent never comes."""
PATIENCE = 7 * 86_400.0
"""Seconds of wall time that an event waits for its antecedent; afterwards it is a dead letter."""
_PAUSE, _LONGEST_PAUSE = 0.05, 5.0

T = TypeVar("T")
Between = Callable[[str, int, int, int], Sequence[Record]]
"""(topic, partition, first offset, end) -> the records there."""


class Watch(Protocol):
    """Who counts what happens here."""

    def handled(self, topic: str, seconds: float) -> None:
        """An event's effect is committed."""

    def duplicate(self, topic: str) -> None:
        """An event came again."""

    def dead(self, topic: str, reason: str) -> None:
        """A record was dead-lettered."""

    def waiting(self, why: str) -> None:
        """Something is away for now."""


class Engine:
    """Runs a service's handlers, each in a transaction with all its traces. Safe for threads; one transaction at a time."""

    def __init__(
        self, service: ControlService, pool: ConnectionPool, registry: Registry, watch: Watch, stop: threading.Event
    ) -> None:
        self.service, self.pool = service, pool
        self.said, self.planned = threading.Event(), threading.Event()
        self._registry, self._watch, self._stop = registry, watch, stop
        self._outbox = Outbox(service.name, registry)
        self._taking = threading.Lock()
        """Held by who takes records, so that nobody judges as passed over what another is at work on."""
        self._patiently = Patience(stop, self._waiting, _PAUSE, _LONGEST_PAUSE, away=(Transient, OperationalError))

    def resume(self) -> None:
        """Judge every waiting record once more, before a life begins to take others. Raises Stopped at the service's end.

        An earlier life may have ended between what such a record waited for and the record itself.
        """
        self._retry_parked(None)

    def take_in_order(self, record: Record, between: Between) -> None:
        """Take one record, and before it those between it and the last one taken. Raises Stopped at the service's end.

        Faust passes over what is in its buffers at a rebalance, and acknowledges it.
        """
        topic, partition = record.topic, record.partition
        with self._taking:
            following = self.persist(lambda: self._following(topic, partition))
            if following is not None and following < record.offset:
                for missed in self.persist(lambda: between(topic, partition, following, record.offset)):
                    self.take(missed)
            self.take(record)

    def take_missed(self, topic: str, partition: int, first: int, end: int, between: Between) -> None:
        """Take the records from `first` up to `end`, unless others have gone on from `first` meanwhile.

        Raises Transient and OperationalError where they cannot be read now, Stopped at the service's end.
        """
        with self._taking:
            if self._following(topic, partition) != first:
                return
            logger.warning("passed over", extra={"topic": topic, "partition": partition, "first": first, "end": end})
            for missed in between(topic, partition, first, end):
                self.take(missed)
            self.persist(lambda: self._go_on(topic, partition, end))

    def take(self, record: Record) -> None:
        """Take one record; returns once its effect is committed. Raises Stopped at the service's end."""
        with spans.taking(self.service.name, record) as span:
            judged = self.persist(lambda: self._take(record, span))
        if judged:  # one that has to wait itself brings no other on
            self._retry_parked(record.topic)

    def fire(self, due: Due) -> None:
        """Run a timer's handler, once."""
        with spans.firing(self.service.name, due) as span:
            meta = Meta(due.id, due.at, _now(), self.service.name, traceparent=span.traceparent)
            self.persist(lambda: self._fire(due, meta))
        self._retry_parked("")

    def once(self, cause: str, act: Callable[[Any], Sequence[Saying]], traceparent: str | None = None) -> bool:
        """What the service does of itself, exactly once per `cause`: `act(ports)` in a transaction; False where it was done before."""
        with spans.acting(self.service.name, cause, traceparent) as span:
            meta = Meta(cause, _now(), _now(), self.service.name, traceparent=span.traceparent)
            return self.persist(lambda: self._once(meta, act))

    @contextmanager
    def ports(self) -> Iterator[Any]:
        """Ports on a transaction of their own that says nothing; for reading, and for leases."""
        with self.pool.connection() as connection, connection.transaction():
            yield self.service.ports(Transaction(connection, Meta("", _now(), _now(), self.service.name)))

    def persist(self, attempt: Callable[[], T]) -> T:
        """Try until what is away has come back; raises Stopped at the service's end."""
        return self._patiently(attempt)

    def check(self) -> None:
        """Raise Stopped at the service's end."""
        if self._stop.is_set():
            raise Stopped

    def _waiting(self, why: str, seconds: float) -> None:
        self._watch.waiting(why)
        logger.warning("waiting", extra={"service": self.service.name, "why": why.strip(), "seconds": seconds})

    def _following(self, topic: str, partition: int) -> int | None:
        with self.pool.connection() as connection:
            return journal.next_offset(connection, topic, partition)

    def _go_on(self, topic: str, partition: int, end: int) -> None:
        """Go on from `end`: a producer's transaction ends with an offset that no record has."""
        with self._transaction() as connection:
            if (journal.next_offset(connection, topic, partition) or 0) < end:
                journal.advance(connection, topic, partition, end)

    def _take(self, record: Record, span: ControlSpan) -> bool:
        """Whether the record was judged: it is none of those taken before, and has not to wait."""
        meta, begin = _meta(record, span.traceparent), time.perf_counter()
        with self._transaction() as connection:
            if record.offset < (journal.next_offset(connection, record.topic, record.partition) or 0):
                return False
            journal.advance(connection, record.topic, record.partition, record.offset + 1)
            judged = self._judge(connection, record, meta, span)
        self._watch.handled(record.topic, time.perf_counter() - begin)
        return judged

    def _judge(self, connection: Connection[Any], record: Record, meta: Meta, span: ControlSpan) -> bool:
        """Run the handler, unless it has heard this event; False where the record has to wait for another.

        Ids can be guessed: an event takes its id only by having its effect, so what is refused or waits takes none from another.
        """
        try:
            with connection.transaction():  # a savepoint: what a refusing handler wrote is undone, the record is taken all the same
                if not journal.hear(connection, record.topic, meta.id, record.value or b""):
                    self._watch.duplicate(record.topic)
                    return True
                event = self._decode(record)
                span.set(facts_of(event))
                said = self.service.handlers[type(event)](event, self.service.ports(Transaction(connection, meta)))
        except Rejected as error:
            self._bury(connection, record, meta, error)
        except (DataError, ProgramLimitExceeded) as error:  # such as a text with a zero character, or one too long for an index
            self._bury(connection, record, meta, Rejected("unstorable", f"a value of this event cannot be stored: {error}"))
        except Parked as error:
            return self._park(connection, record, meta, error)
        else:
            self._outbox.say(connection, meta, said)
        return True

    def _park(self, connection: Connection[Any], record: Record, meta: Meta, error: Parked) -> bool:
        if not journal.waits(connection, record) and journal.waiting(connection) >= MOST_PARKED:
            self._bury(
                connection, record, meta, Rejected("too-many-parked", f"waits for {error.antecedent}, as too many others do")
            )
            return True
        logger.info("parked", extra={"topic": record.topic, "offset": record.offset, "antecedent": error.antecedent})
        journal.park(connection, record, error.antecedent, topic_name(error.after) if error.after else None)
        return False

    def _retry_parked(self, topic: str | None) -> None:
        """Judge the records that waited for one of `topic` (None: for whatever) again, and those that waited for these."""
        heard = [topic]
        while heard:
            waiting = self.persist(partial(self._parked, heard.pop()))
            heard += [record.topic for record, age in waiting if self.persist(partial(self._retry, record, age))]

    def _parked(self, topic: str | None) -> list[tuple[Record, float]]:
        with self.pool.connection() as connection:
            return journal.parked(connection, topic)

    def _retry(self, record: Record, age: float) -> bool:
        with spans.taking(self.service.name, record) as span, self._transaction() as connection:
            meta = _meta(record, span.traceparent)
            if not journal.waits(connection, record):  # the clock's thread and the records' may have seen it waiting both
                return False
            if age > PATIENCE:
                self._bury(connection, record, meta, Rejected("antecedent-missing", "what this event rests on never came"))
            else:
                journal.unhear(connection, record.topic, meta.id)
                if not self._judge(connection, record, meta, span):
                    return False
            journal.unpark(connection, record)
            return True

    def _fire(self, due: Due, meta: Meta) -> None:
        with self._transaction() as connection:
            if journal.take_due(connection, due.id):
                ports = self.service.ports(Transaction(connection, meta))
                self._outbox.say(connection, meta, self.service.timers[due.name](due, ports))

    def _once(self, meta: Meta, act: Callable[[Any], Sequence[Saying]]) -> bool:
        with self._transaction() as connection:
            first = journal.hear(connection, "", meta.id)
            if first:
                self._outbox.say(connection, meta, act(self.service.ports(Transaction(connection, meta))))
            return first

    @contextmanager
    def _transaction(self) -> Iterator[Connection[Any]]:
        with self.pool.connection() as connection, connection.transaction():
            journal.serialise(connection)
            yield connection
        self.said.set()
        self.planned.set()

    def _decode(self, record: Record) -> Event:
        event = wire.decode(record.value or b"", self._registry, record.headers)
        if not isinstance(event, Event) or type(event) not in self.service.handlers or topic_name(type(event)) != record.topic:
            raise Rejected("wrong-type", f"{type(event).__name__} does not belong into {record.topic}")
        return event

    def _bury(self, connection: Connection[Any], record: Record, meta: Meta, error: Rejected) -> None:
        logger.warning(
            "dead letter", extra={"topic": record.topic, "offset": record.offset, "reason": error.reason, "why": error.message}
        )
        self._watch.dead(record.topic, error.reason)
        self._outbox.bury(connection, record, meta, error)


def _meta(record: Record, traceparent: str | None) -> Meta:
    read = envelope.parse(record.headers)
    now = _now()
    return Meta(
        id=read.id or f"{record.topic}/{record.partition}/{record.offset}",
        time=read.time if read.time is not None else now,
        now=now,
        source=read.source,
        cause=read.caused_by,
        traceparent=traceparent,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
    )


def _now() -> int:
    return time.time_ns() // 1000
