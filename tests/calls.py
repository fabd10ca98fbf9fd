"""How many Python calls a piece of work makes: what is compiled or vectorised makes none per event, however slow the machine is."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any


def calls_of(work: Callable[[], Any]) -> int:
    """The Python functions that are entered while `work` runs, in this thread."""
    made = 0

    def count(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal made
        made += event == "call"

    gc.disable()  # others hook Python functions into the collector
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return made
