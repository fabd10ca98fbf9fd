"""Fires timers when their moment of wall time has come."""

from __future__ import annotations

import threading
import time

from tidemill.bus.control import journal
from tidemill.bus.control.engine import Engine
from tidemill.bus.patience import Stopped

_LOOK_AGAIN = 1.0
"""Seconds: the wall clock may be set."""


class Clock:
    """`run` in a thread of its own."""

    def __init__(self, engine: Engine, stop: threading.Event) -> None:
        self._engine, self._stop = engine, stop

    def run(self) -> None:
        """Fire what is due, to the service's end."""
        while not self._stop.is_set():
            self._engine.planned.clear()
            try:
                pause = self._engine.persist(self.tick)
            except Stopped:
                return
            if pause:
                self._engine.planned.wait(pause)

    def tick(self) -> float:
        """Fire the earliest timer if it is due; how long (seconds) to wait for the next."""
        with self._engine.pool.connection() as connection:
            due = journal.next_due(connection)
        ahead = _LOOK_AGAIN if due is None else due.at / 1e6 - time.time()
        if due is not None and ahead <= 0:
            self._engine.fire(due)
            return 0.0
        return min(ahead, _LOOK_AGAIN)
