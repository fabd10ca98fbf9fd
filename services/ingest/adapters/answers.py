"""HTTP callers who wait until the log has their event. The door waits, a shard's loop answers; safe for threads."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from typing import Literal

Status = Literal["accepted", "duplicate", "rejected"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one raw record."""

    status: Status
    partition: int = -1
    """Place in the log of the event (of the first one, for a duplicate); -1 where it is not known."""
    offset: int = -1
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One question: its number, and where the answer will be."""

    number: int
    future: Future[Answer]


class Answers:
    """The waiting callers of one process's door, by the number of their question."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._waiting: dict[int, Future[Answer]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self) -> Waiting:
        """To be called before the raw record is sent, so that no answer comes too early."""
        waiting = Waiting(next(self._numbers), Future())
        waiting.future.set_running_or_notify_cancel()  # a caller whose patience is over must not cancel what is just told
        with self._lock:
            self._waiting[waiting.number] = waiting.future
        return waiting

    def tell(self, number: int, answer: Answer) -> None:
        """What became of the record of this question; the first answer counts, and nobody need wait any more."""
        if future := self._taken(number):
            future.set_result(answer)

    def fail(self, number: int, error: Exception) -> None:
        """There will be no answer."""
        if future := self._taken(number):
            future.set_exception(error)

    def forget(self, number: int) -> None:
        """Nobody waits any more."""
        self._taken(number)

    def _taken(self, number: int) -> Future[Answer] | None:
        with self._lock:
            return self._waiting.pop(number, None)
