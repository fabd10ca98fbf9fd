"""The header of every record of the log, and the leading doubles of every derived one."""

from __future__ import annotations

from typing import Final

import numpy as np

HEADER: Final = "tm"
"""The one header of a log record; its value is one LOG_HEADER row."""

LOG_HEADER: Final = np.dtype(
    [
        ("kind", "u1"),
        ("source", "u1"),  # index in StreamSpec.order; CONTROL for control records
        ("raw_partition", "<u2"),
        ("writer", "<u8"),
        ("seq", "<i8"),  # dense over the valid records of the shard, barriers included
        ("known", "<i8"),  # us
        ("stream", "<i8"),  # stream time (R7), us, never decreasing
        ("raw_offset", "<i8"),  # -1 for control records
    ]
)
"""44 bytes, packed, little endian."""

EVENT: Final = 0
BARRIER: Final = 1
SPEC_ADOPTED: Final = 2
MODEL_SWITCHED: Final = 3
PROGRESSED: Final = 4
CONTROL: Final = 255
"""`source` of a control record."""

PREFIX: Final = np.dtype([("frame", "V5"), ("seq", "<f8"), ("position", "<f8"), ("stream_time", "<f8")])
"""How every record behind the log begins, and every control record in it: 29 bytes."""

_STAMP = np.dtype([("seq", "<f8"), ("position", "<f8"), ("stream_time", "<f8")])


def restamp(value: bytes, seq: int, position: int, stream_time: int) -> bytes:
    """The same framed control record at another place: its first three fields replaced."""
    stamp = np.array((seq, position, stream_time), _STAMP)
    return value[:5] + stamp.tobytes() + value[PREFIX.itemsize :]
