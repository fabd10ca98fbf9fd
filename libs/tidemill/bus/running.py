"""What the other threads of a data-plane service see of its loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, Generic, TypeVar

from tidemill.bus.fold import State
from tidemill.bus.worker import Worker

Answer = TypeVar("Answer")
Shard = tuple[str, int]
"""A stream and a partition."""


class Running(Generic[State]):
    """What a service's other threads may know of the loop, and ask of it."""

    def __init__(self, stop: threading.Event, workers: dict[Shard, Worker[State]]) -> None:
        self.stop: Final = stop
        """Set when the process is to end."""
        self._workers = workers
        self._questions: list[tuple[Callable[[], Any], Future[Any]]] = []

    def owned(self) -> set[Shard]:
        """The (stream, partition)s whose records are folded here."""
        return set(self._workers)

    def ask(self, stream: str, partition: int, question: Callable[[State], Answer], seconds: float = 5.0) -> Answer:
        """Answer a question of a state, between two batches. Raises KeyError where the partition is not folded here, TimeoutError."""
        answer: Future[Answer] = Future()
        self._questions.append((lambda: question(self._workers[stream, partition].state), answer))
        return answer.result(seconds)

    def answer(self) -> None:
        """Answer what was asked."""
        while self._questions:
            question, answer = self._questions.pop(0)
            try:
                answer.set_result(question())
            except Exception as error:
                answer.set_exception(error)


def with_sidecars(running: Running[State], sidecars: Sequence[Callable[[Running[State]], None]], work: Callable[[], None]) -> None:
    """Do the work beside the sidecars; the first error of any ends all and is raised."""
    failed: list[Exception] = []

    def guarded(sidecar: Callable[[Running[State]], None]) -> None:
        try:
            sidecar(running)
        except Exception as error:
            failed.append(error)
            running.stop.set()

    threads = [threading.Thread(target=guarded, args=(sidecar,), daemon=True) for sidecar in sidecars]
    for thread in threads:
        thread.start()
    work()
    running.stop.set()
    for thread in threads:
        thread.join(2)
    if failed:
        raise failed[0]
