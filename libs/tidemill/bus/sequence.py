"""Which records of an input count: those of the last barrier's writer (R5), each number once and none left out (R1). Pure.

Arrays in, arrays out: every reader of the log, and of what is behind it, judges by these.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tidemill.bus.fold import I8
from tidemill.events.blobs import Blobs
from tidemill.events.log_header import BARRIER, HEADER, LOG_HEADER, PREFIX

EVERY: Final = slice(None)
"""All of a batch, without a copy."""


class Gap(RuntimeError):
    """A record is missing in an input: the reader stops at once, since everything after it would be wrong."""


def log_stamps(headers: list[Any]) -> tuple[npt.NDArray[np.void], I8]:
    """The LOG_HEADER of each record, and the indices of the records that have one."""
    if all(headers):
        heads = [head[0] for head in headers]
        stamps = [stamp for _, stamp in heads]
        if {name for name, _ in heads} == {HEADER} and None not in stamps and set(map(len, stamps)) == {LOG_HEADER.itemsize}:
            return np.frombuffer(b"".join(stamps), LOG_HEADER), np.arange(len(headers))
    sound = [i for i, head in enumerate(headers) if _is_stamp(head)]
    return np.frombuffer(b"".join([headers[i][0][1] for i in sound]), LOG_HEADER), np.array(sound, np.int64)


def _is_stamp(head: Any) -> bool:
    return bool(head) and head[0][0] == HEADER and head[0][1] is not None and len(head[0][1]) == LOG_HEADER.itemsize


def behind_log(values: Blobs, following: int, where: str) -> tuple[npt.NDArray[np.void], I8, int]:
    """Of records behind the log: the PREFIX of each that counts, its index, and the number after them. Raises Gap; see `dense`."""
    rows, sound = values.heads(PREFIX)
    _, fresh, following = dense(rows, following, where, log=False)
    return rows[fresh], sound[fresh], following


def of_writer(rows: npt.NDArray[np.void], writer: int) -> tuple[int, Any]:
    """The writer after these records, and which of them are of the last barrier's writer before them: `writer`'s before the first."""
    barriers = np.flatnonzero(rows["kind"] == BARRIER)
    if not len(barriers):
        valid = rows["writer"] == np.uint64(writer)
        return writer, EVERY if valid.all() else valid
    current = np.full(len(rows), writer, np.uint64)
    for at in barriers.tolist():
        current[at:] = rows["writer"][at]
    return int(current[-1]), rows["writer"] == current


def dense(rows: npt.NDArray[np.void], following: int, where: str, log: bool) -> tuple[I8, Any, int]:
    """The numbers of the records that come next, which those are, and the number after them. Raises Gap.

    `following` is the number to take next; `where` names the partition; a `log` has barriers.
    """
    seqs: I8 = rows["seq"].astype(np.int64)
    if np.array_equal(seqs, np.arange(following, following + len(seqs))):
        return seqs, EVERY, following + len(seqs)
    barriers = (rows["kind"] == BARRIER).tolist() if log else [False] * len(seqs)
    fresh, begin = [], following
    for at, (seq, barrier) in enumerate(zip(seqs.tolist(), barriers, strict=True)):
        if seq > following:
            raise Gap(f"{where}: record {following} is missing, {seq} came instead; nothing after it may be folded")
        if seq == following or barrier:  # a barrier is appended before its writer knows the last number: it takes the next
            fresh.append(at)
            following += 1
    return np.arange(begin, following), np.array(fresh, np.int64), following
