"""Servers that somebody else runs: they are asked, not started."""

from __future__ import annotations

import time
from collections.abc import Callable

from tidemill.stack.child import StartFailed

PATIENCE = 20.0
"""Seconds in which an outside server must answer."""


def await_answer(name: str, setting: str, answers: Callable[[], bool], stopping: Callable[[], bool]) -> None:
    """Return once it answers; StartFailed when it does not in time."""
    deadline = time.monotonic() + PATIENCE
    while not answers():
        if stopping() or time.monotonic() > deadline:
            raise StartFailed(
                f"{name} did not answer within {PATIENCE:.0f} s: it is an outside one, named by the setting {setting!r}"
            )
        time.sleep(0.2)
