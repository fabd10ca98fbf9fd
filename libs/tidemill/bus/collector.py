"""Python's collector of cycles, kept away from what stays."""

from __future__ import annotations

import gc


def settle() -> None:
    """What is alive now is not looked at again: modules and compiled kernels are half a million objects.

    Batches make enough new ones that the collector walked all of them every 30,000 records, for 0.1 s each time.
    """
    gc.collect()
    keep()


def keep() -> None:
    """As `settle`, at once and with what cycles there are: for a process that is at work already."""
    gc.freeze()
