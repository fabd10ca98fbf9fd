"""The toy service's parts on the session's real broker, registry and database."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from tests.integration.control.toy import toy
from tidemill.bus.control import journal
from tidemill.bus.control.engine import Engine, Watch
from tidemill.bus.control.service import Handler
from tidemill.events import envelope, wire
from tidemill.events.base import Event
from tidemill.events.dead import Record


@dataclass
class Seen:
    """Counts what the engine says of itself."""

    handled_: int = 0
    duplicates: int = 0
    letters: list[str] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)

    def handled(self, topic: str, seconds: float) -> None:
        self.handled_ += 1

    def duplicate(self, topic: str) -> None:
        self.duplicates += 1

    def dead(self, topic: str, reason: str) -> None:
        self.letters.append(reason)

    def waiting(self, why: str) -> None:
        self.waits.append(why)


@dataclass
class Bench:
    """An engine without a broker; records are given by hand."""

    engine: Engine
    seen: Seen
    dsn: str

    def engine_of(self, handlers: Mapping[type[Event], Handler]) -> Engine:
        """Another engine on the same database, with these handlers in place of the toy's."""
        service = replace(toy(), handlers={**toy().handlers, **handlers})
        return Engine(service, self.engine.pool, self.engine._registry, self.seen, threading.Event())

    def engine_watched_by(self, watch: Watch) -> Engine:
        """Another engine on the same database, as of another life."""
        return Engine(toy(), self.engine.pool, self.engine._registry, watch, threading.Event())

    def record(self, event: Event, offset: int, event_id: str | None = None) -> Record:
        registry = self.engine._registry
        headers = envelope.headers(event_id or str(uuid.uuid4()), "test", event.ce_type(), 1_000_000)
        return Record(event.TOPIC or "", 0, offset, event.kafka_key(), wire.encode(event, registry), headers)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return list(connection.execute(query.encode()))

    def said(self) -> list[Event]:
        registry = self.engine._registry
        with psycopg.connect(self.dsn) as connection:
            found = [wire.decode(letter.value, registry) for letter in journal.unsent(connection, 1000)]
        return [event for event in found if isinstance(event, Event)]


@pytest.fixture
def bench(stack) -> Iterator[Bench]:
    dsn = stack.new_database()
    with ConnectionPool(dsn, min_size=1, max_size=4, open=True) as pool:
        with pool.connection() as connection:
            journal.migrate(connection, toy().migrations)
        seen = Seen()
        yield Bench(Engine(toy(), pool, stack.registry, seen, threading.Event()), seen, dsn)
