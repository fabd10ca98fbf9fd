"""HTTP callers who wait until the log has their event. The door waits, the shard's loop answers; safe for threads."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from services.ingest.model import U64, Lane


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one raw record."""

    status: Literal["accepted", "duplicate", "rejected"]
    partition: int = -1
    """Place in the log of the event (of the first one, for a duplicate); -1 where it is not known."""
    offset: int = -1
    reason: str = ""
    message: str = ""


@dataclass(eq=False)
class Waiting:
    """One raw record that a caller waits for: complete when its place in the raw topic and the answer for that place are known."""

    ident: int
    future: Future[Answer] = field(default_factory=Future)
    place: tuple[Lane, int] | None = None
    heard: dict[tuple[Lane, int], Answer] = field(default_factory=dict)


class Answers:
    """All waiting callers of one stream, by what their event is identified by (Rows.ident)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, list[Waiting]] = {}

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._waiting.values()))

    def expect(self, ident: int) -> Waiting:
        """To be called before the raw record is sent, so that no answer comes too early."""
        waiting = Waiting(ident)
        with self._lock:
            self._waiting.setdefault(ident, []).append(waiting)
        return waiting

    def sent(self, waiting: Waiting, lane: Lane, offset: int) -> None:
        """The raw record is at this place."""
        with self._lock:
            waiting.place = (lane, offset)
            self._complete(waiting)

    def forget(self, waiting: Waiting) -> None:
        """Nobody waits any more."""
        with self._lock:
            self._remove(waiting)

    def wanted(self) -> U64 | None:
        """What is waited for; None where nothing is."""
        if not self._waiting:
            return None
        with self._lock:
            return np.array(list(self._waiting), np.uint64)

    def tell(self, ident: int, lane: Lane, offset: int, answer: Answer) -> None:
        """What became of the raw record at this place."""
        with self._lock:
            for waiting in list(self._waiting.get(ident, ())):
                waiting.heard[lane, offset] = answer
                self._complete(waiting)

    def _complete(self, waiting: Waiting) -> None:
        if waiting.place in waiting.heard and not waiting.future.done():
            waiting.future.set_result(waiting.heard[waiting.place])
            self._remove(waiting)

    def _remove(self, waiting: Waiting) -> None:
        others = [other for other in self._waiting.get(waiting.ident, ()) if other is not waiting]
        if others:
            self._waiting[waiting.ident] = others
        else:
            self._waiting.pop(waiting.ident, None)
