"""What a control service is made of: handlers of events, handlers of timers, ports on the transaction.

A handler is a plain function `on_<fact>(event, ports) -> list[Saying]`. All that it reads and writes goes through its ports,
which live on the one PostgreSQL transaction of the event; what it returns is said by the relay once that is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tidemill.errors import TidemillError
from tidemill.events.base import Event

if TYPE_CHECKING:
    from fastapi import APIRouter
    from psycopg import Connection, Cursor
    from psycopg_pool import ConnectionPool


@dataclass(frozen=True, slots=True)
class Meta:
    """What an event's handler may want to know beside its payload."""

    id: str
    """The id of the event, or of the due timer: the cause of what the handler returns."""
    time: int
    """When it was said (wall time, us)."""
    now: int
    """Wall time of this transaction, us: the only clock a handler has."""
    source: str = ""
    cause: str | None = None
    """The id of the event that led to this one."""
    traceparent: str | None = None
    """The span in which this transaction happens."""
    topic: str = ""
    partition: int = 0
    offset: int = -1


@dataclass(frozen=True, slots=True)
class Transaction:
    """The transaction of one event, for ports to live on."""

    connection: Connection[Any]
    meta: Meta

    def execute(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Cursor[Any]:
        """Run one statement."""
        return self.connection.execute(query.encode(), parameters)


@dataclass(frozen=True, slots=True)
class Timer:
    """Something to be done at a moment of wall time: the handler of `name` is called with a Due. One per (name, subject) and cause."""

    name: str
    subject: str
    at: int
    """Wall time, us."""
    payload: str = ""


@dataclass(frozen=True, slots=True)
class Due:
    """A timer whose moment has come."""

    id: str
    name: str
    subject: str
    payload: str
    at: int
    traceparent: str | None = None
    """The span that set it."""


@dataclass(frozen=True, slots=True)
class ToStream:
    """An event whose fact has one topic per stream."""

    event: Event
    stream: str
    partition: int = 0


Saying = Event | ToStream | Timer
"""What a handler returns. Event ids follow from the cause, the kind, the key and the ordinal among those alike."""

Handler = Callable[[Any, Any], Sequence[Saying]]


class Parked(TidemillError):
    """The event's antecedent has not come yet: keep it, and judge it again after others."""

    def __init__(self, antecedent: str, after: type[Event] | None = None) -> None:
        """`antecedent` says for people what is missing (`version late-arrival/3`).

        `after`: the fact that may bring it; None: any. The event is judged again after each of these.
        """
        super().__init__(antecedent)
        self.antecedent, self.after = antecedent, after


@dataclass(frozen=True)
class ControlService:
    """One control service."""

    name: str
    handlers: Mapping[type[Event], Handler]
    ports: Callable[[Transaction], Any]
    timers: Mapping[str, Handler] = field(default_factory=dict)
    migrations: Sequence[str] = ()
    """SQL, applied once each, in order; one that has been applied never changes."""
    http: Callable[[ConnectionPool], APIRouter] | None = None
    """The service's own HTTP door, mounted beside health and metrics."""
