"""Waiting for what other processes do: asked again and again, never slept for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def until(condition: Callable[[], Any], what: str = "it did not come", seconds: float = 60.0) -> Any:
    """What the condition gives as soon as it is true; AssertionError with `what` where it is not in time."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.02)
    return found
