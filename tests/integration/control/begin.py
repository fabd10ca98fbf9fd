"""Control topics are shared by all tests of a session: a service under test begins where they end now."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from tidemill.bus.consumer import reader, watermarks
from tidemill.bus.control import journal
from tidemill.events.base import Event
from tidemill.settings import Settings


def begin_here(dsn: str, settings: Settings, kinds: Sequence[type[Event]], migrations: Sequence[str]) -> None:
    """Make the service's tables, as if it had heard all that is there."""
    consumer = reader(settings)
    with psycopg.connect(dsn) as connection:
        journal.migrate(connection, migrations)
        for kind in kinds:
            for partition, (_, high) in watermarks(consumer, str(kind.TOPIC)).items():
                journal.advance(connection, str(kind.TOPIC), partition, high)
    consumer.close()
