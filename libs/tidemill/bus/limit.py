"""When a service stops because its input dies (R11)."""

from __future__ import annotations

import os
from collections import deque
from typing import Final

EXIT_STOPPED: Final = os.EX_DATAERR
"""The code with which such a service ends: a supervisor does not start it again."""
WINDOW: Final = 10_000
"""Newest records that are looked at."""
LEAST: Final = 200
"""Dead records before the share means anything."""


class TooManyDead(RuntimeError):
    """Too large a share of the newest input could not be taken: somebody should look before the service goes on."""


def exit_code(error: BaseException) -> int:
    """With what a service ends that an error has stopped."""
    return EXIT_STOPPED if isinstance(error, TooManyDead) else 1


class DeadShare:
    """Counts how much of a service's newest input could not be taken.

    A stream may be bad; when more than `share` of it is, something is wrong that dead letters will not cure.
    """

    def __init__(self, share: float, window: int = WINDOW, least: int = LEAST) -> None:
        self._share, self._window, self._least = share, window, least
        self._counts: deque[tuple[int, int]] = deque()
        self._records = self._dead = 0

    @property
    def seen(self) -> tuple[int, int]:
        """How many records are looked at now, and how many of them could not be taken."""
        return self._records, self._dead

    def resume(self, records: int, dead: int) -> None:
        """Begin with what a former life has `seen`, so that a restart changes nothing.

        What would have stopped it counts no more: somebody has said to go on.
        """
        self._counts.clear()
        self._records = self._dead = 0
        if records and not self._too_many(records, dead):
            self._add(records, dead)

    def count(self, records: int, dead: int) -> None:
        """`dead` of the next `records` could not be taken; raises TooManyDead."""
        if not records and not dead:
            return
        self._add(records, dead)
        while self._records - self._counts[0][0] >= self._window:
            old_records, old_dead = self._counts.popleft()
            self._records, self._dead = self._records - old_records, self._dead - old_dead
        if self._too_many(self._records, self._dead):
            raise TooManyDead(
                f"{self._dead} of the newest {self._records} records could not be taken: see the dead letters. To go on all the same, set TIDEMILL_DEAD_SHARE=1"
            )

    def _add(self, records: int, dead: int) -> None:
        self._counts.append((records, dead))
        self._records, self._dead = self._records + records, self._dead + dead

    def _too_many(self, records: int, dead: int) -> bool:
        return dead >= self._least and dead > self._share * records
