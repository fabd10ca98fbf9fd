"""Python's collector of cycles, kept away from what stays."""

from __future__ import annotations

import gc
from typing import Final

_YOUNG: Final = 10_000
"""New objects after which the collector looks: a few times a batch, not 25 times. Not many more, since a live event waits until they have
been let go of: xgboost makes a class for each prediction, and 100,000 objects of such took 0.1 to 0.2 s.
"""


def settle() -> None:
    """What is alive now is not looked at again: modules and compiled kernels are half a million objects.

    Batches make enough new ones that the collector walked all of them every 30,000 records, for 0.1 s each time.
    """
    gc.collect()
    keep()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])


def keep() -> None:
    """As `settle`, at once and with what cycles there are: for a process that is at work already."""
    gc.freeze()
