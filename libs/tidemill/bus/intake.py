"""From messages to batches: what a reader takes (R1) and of which writer (R5).

No Python call per record: the getters of a message are C functions, the judging is over arrays. Only a batch in which something is
missing, repeated or void is looked at record by record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from confluent_kafka import Message

from tidemill.bus.fold import I8, Batch, Input
from tidemill.bus.metrics import DROPPED
from tidemill.bus.snapshot import fingerprint
from tidemill.events.log import BARRIER, HEADER, LOG_HEADER, PREFIX

_EVERY: Final = slice(None)
_WHEN: Final = itemgetter(1)


class Gap(RuntimeError):
    """A record is missing in an input: the reader stops at once, since everything after it would be wrong."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reader stands in one partition of an input."""

    offset: int = 0
    """The next offset to read."""
    seq: int = 0
    """The next sequence number to take."""
    writer: int = 0
    """Whose records count: the writer of the log's last barrier."""
    newest: str | Message = ""
    """The record before `offset`, or its fingerprint where it was read in an earlier life."""

    @property
    def fingerprint(self) -> str:
        """Tells the record before `offset` from any other; empty where there is none."""
        return self.newest if isinstance(self.newest, str) else fingerprint(self.newest.key(), self.newest.value())


def grouped(messages: list[Message]) -> Iterator[tuple[tuple[str, int], list[Message]]]:
    """The messages by (topic, partition), each in order."""
    places: list[Any] = list(zip(map(Message.topic, messages), map(Message.partition, messages), strict=True))
    distinct = dict.fromkeys(places)
    if len(distinct) == 1:
        yield places[0], messages
        return
    for place in distinct:
        yield place, [message for message, at in zip(messages, places, strict=True) if at == place]


def intake(source: Input, topic: str, partition: int, messages: list[Message], place: Place) -> tuple[Batch | None, Place]:
    """The records that count, and where the reader stands after them. Raises Gap."""
    offsets: I8 = np.fromiter(map(Message.offset, messages), np.int64, len(messages))
    if offsets[0] < place.offset:  # delivered again after a change of the assignment
        again = int(np.searchsorted(offsets, place.offset))
        messages, offsets = messages[again:], offsets[again:]
        if not messages:
            return None, place
    headers: list[Any] = list(map(Message.headers, messages))
    values: list[Any] = list(map(Message.value, messages))
    rows, sound = _log_stamps(headers) if source.log else _prefixes(values)
    writer, valid = _of_writer(rows, place.writer) if source.log else (place.writer, _EVERY)
    rows, own = rows[valid], sound[valid]
    seqs, fresh, following = _dense(rows, place.seq, f"{topic}[{partition}]", source.log)
    keep = own[fresh]
    after = replace(place, offset=int(offsets[-1]) + 1, seq=following, writer=writer, newest=messages[-1])
    if len(keep) < len(messages):
        _say_dropped(topic, len(messages), len(sound), len(own), len(keep))
        headers, values = [headers[i] for i in keep], [values[i] for i in keep]
        messages, offsets = [messages[i] for i in keep], offsets[keep]
    if not messages:
        return None, after
    times = np.fromiter(map(_WHEN, map(Message.timestamp, messages)), np.int64, len(messages))
    keys = list(map(Message.key, messages))
    log = rows[fresh] if source.log else None
    return Batch(source.name, topic.partition(".")[2], partition, offsets, times, keys, values, headers, seqs, log), after


def _log_stamps(headers: list[Any]) -> tuple[npt.NDArray[np.void], I8]:
    """The LOG_HEADER of each record, and the indices of the records that have one."""
    if None not in headers:
        heads = [head[0] for head in headers]
        stamps = [stamp for _, stamp in heads]
        if {name for name, _ in heads} == {HEADER} and None not in stamps and set(map(len, stamps)) == {LOG_HEADER.itemsize}:
            return np.frombuffer(b"".join(stamps), LOG_HEADER), np.arange(len(headers))
    sound = [i for i, head in enumerate(headers) if _is_stamp(head)]
    return np.frombuffer(b"".join([headers[i][0][1] for i in sound]), LOG_HEADER), np.array(sound, np.int64)


def _is_stamp(head: Any) -> bool:
    return bool(head) and head[0][0] == HEADER and head[0][1] is not None and len(head[0][1]) == LOG_HEADER.itemsize


def _prefixes(values: list[Any]) -> tuple[npt.NDArray[np.void], I8]:
    """The PREFIX of each record, and the indices of the records that have one."""
    width = PREFIX.itemsize
    if None not in values and min(map(len, values)) >= width:
        return np.frombuffer(b"".join([value[:width] for value in values]), PREFIX), np.arange(len(values))
    sound = [i for i, value in enumerate(values) if value is not None and len(value) >= width]
    return np.frombuffer(b"".join([values[i][:width] for i in sound]), PREFIX), np.array(sound, np.int64)


def _of_writer(rows: npt.NDArray[np.void], writer: int) -> tuple[int, npt.NDArray[np.bool_]]:
    """The writer after these records, and which of them are of the last barrier's writer before them."""
    barriers = np.flatnonzero(rows["kind"] == BARRIER)
    if not len(barriers):
        return writer, rows["writer"] == np.uint64(writer)
    current = np.full(len(rows), writer, np.uint64)
    for at in barriers.tolist():
        current[at:] = rows["writer"][at]
    return int(current[-1]), rows["writer"] == current


def _dense(rows: npt.NDArray[np.void], following: int, where: str, log: bool) -> tuple[I8, Any, int]:
    """The numbers of the records that come next, which those are, and the number after them. Raises Gap."""
    seqs: I8 = rows["seq"].astype(np.int64)
    if np.array_equal(seqs, np.arange(following, following + len(seqs))):
        return seqs, _EVERY, following + len(seqs)
    barriers = (rows["kind"] == BARRIER).tolist() if log else [False] * len(seqs)
    fresh, begin = [], following
    for at, (seq, barrier) in enumerate(zip(seqs.tolist(), barriers, strict=True)):
        if seq > following:
            raise Gap(f"{where}: record {following} is missing, {seq} came instead; nothing after it may be folded")
        if seq == following or barrier:  # a barrier is appended before its writer knows the last number: it takes the next
            fresh.append(at)
            following += 1
    return np.arange(begin, following), np.array(fresh, np.int64), following


def _say_dropped(topic: str, came: int, sound: int, own: int, kept: int) -> None:
    for reason, count in (("foreign", came - sound), ("void", sound - own), ("repeated", own - kept)):
        if count:
            DROPPED.labels(topic, reason).inc(count)
