"""Waiting for what is away: the same is tried again until it is done, time is up, or the end has come."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from tidemill.errors import Transient

Answer = TypeVar("Answer")


class Stopped(Exception):
    """The process, or this part of it, was asked to end while it waited; its next life does again what was not done."""


class Stop(Protocol):
    """A `threading.Event` that is set at the end."""

    def wait(self, timeout: float) -> bool:
        """Whether the end comes within so many seconds."""


@dataclass(frozen=True)
class Patience:
    """Called with an action, it gives the action's result. Raises Stopped at the end, and the action's own error when time is up."""

    stop: Stop
    waiting: Callable[[str, float], object]
    """Told before each wait why it is, and for how many seconds."""
    pause: float
    """Seconds of the first wait; each next one is twice as long, up to `longest`."""
    longest: float
    limit: float = math.inf
    """Seconds after which no further wait begins."""
    away: tuple[type[Exception], ...] = (Transient,)
    """The errors that are waited for. Any other is raised at once."""
    clock: Callable[[], float] = time.monotonic

    def __call__(self, action: Callable[[], Answer]) -> Answer:
        """The action's result, tried again while something is away."""
        until, pause = self.clock() + self.limit, self.pause
        while True:
            try:
                return action()
            except self.away as error:
                if self.clock() > until:
                    raise
                self.waiting(str(error), pause)
            if self.stop.wait(pause):
                raise Stopped
            pause = min(2 * pause, self.longest)
