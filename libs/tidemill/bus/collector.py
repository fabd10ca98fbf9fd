"""Python's collector of cycles, kept away from what stays."""

from __future__ import annotations

import gc


def settle() -> None:
    """What is alive now is not looked at again: modules and compiled kernels are half a million objects.

    Batches make enough new ones that the collector walked all of them every 30,000 records, for 0.1 s each time.
    """
    gc.collect()
    gc.freeze()
