"""Waiting for what other processes do: asked again and again, never slept for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def until(condition: Callable[[], Any], what: str = "it did not come", seconds: float = 60.0) -> Any:
    """What the condition gives as soon as it is true; AssertionError with `what` where it is not in time.

    Asking takes at most half of a core: those who are waited for need the rest.
    """
    end, asked = time.monotonic() + seconds, time.thread_time()
    while not (found := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(max(0.02, time.thread_time() - asked))
        asked = time.thread_time()
    return found
