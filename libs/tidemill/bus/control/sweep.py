"""Takes what Faust passed over where no later record brings it to light: the last records of a partition."""

from __future__ import annotations

import logging
import threading

from psycopg import OperationalError

from tidemill.bus.control import journal
from tidemill.bus.control.engine import Engine
from tidemill.bus.control.places import Places
from tidemill.errors import Transient

logger = logging.getLogger(__name__)

_EVERY = 5.0
"""Seconds between two looks: more than Faust needs to bring a record. One that it brings later is known to be taken."""


class Sweep:
    """`run` in a thread of its own."""

    def __init__(self, engine: Engine, places: Places, stop: threading.Event) -> None:
        self._engine, self._places, self._stop = engine, places, stop
        self._waited: dict[tuple[str, int], int] = {}
        """The next offset of each partition in which records waited at the last look."""

    def run(self) -> None:
        """Look again and again, to the service's end."""
        while not self._stop.wait(_EVERY):
            try:
                self.look()
            except (Transient, OperationalError) as error:
                logger.warning("sweep waits", extra={"why": str(error).strip()})

    def look(self) -> None:
        """Take the records that wait where the last look found the same.

        Raises Transient and OperationalError where something is away, Stopped at the service's end.
        """
        waiting, before = self._waiting(), self._waited
        self._waited = {place: first for place, (first, _) in waiting.items()}
        for place, (first, end) in waiting.items():
            if before.get(place) == first:
                self._engine.take_missed(*place, first, end, self._places.between)

    def _waiting(self) -> dict[tuple[str, int], tuple[int, int]]:
        """Next offset and end of each partition that was not heard to its end."""
        ends = {place: high for place, (_, high) in self._places.watermarks().items()}
        with self._engine.pool.connection() as connection:
            heard = journal.places(connection)
        return {place: (heard[place], end) for place, end in ends.items() if place in heard and heard[place] < end}
