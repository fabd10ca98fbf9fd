"""From messages to batches of those that count (`sequence`), and where the reader stands after them.

No Python call per record: the getters of a message are C functions, the judging is over arrays. Only a batch in which something is
missing, repeated or void is looked at record by record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, Final

import numpy as np
from confluent_kafka import Message

from tidemill.bus.consumer import headers_of, unreadable
from tidemill.bus.fold import I8, Batch, Input
from tidemill.bus.metrics import DROPPED
from tidemill.bus.sequence import EVERY, dense, log_stamps, of_writer, prefixes
from tidemill.bus.snapshot import fingerprint

_WHEN: Final = itemgetter(1)


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
    topics: list[Any] = list(map(Message.topic, messages))
    partitions: list[Any] = list(map(Message.partition, messages))
    if len(set(topics)) == len(set(partitions)) == 1:  # most batches; pairs of both would cost twice the time
        yield (topics[0], partitions[0]), messages
        return
    places = list(zip(topics, partitions, strict=True))
    for place in dict.fromkeys(places):
        yield place, [message for message, at in zip(messages, places, strict=True) if at == place]


def intake(source: Input, topic: str, partition: int, messages: list[Message], place: Place) -> tuple[Batch | None, Place]:
    """The records that count, and where the reader stands after them. Raises Gap."""
    offsets: I8 = np.fromiter(map(Message.offset, messages), np.int64, len(messages))
    if offsets[0] < place.offset:  # delivered again after a change of the assignment
        again = int(np.searchsorted(offsets, place.offset))
        messages, offsets = messages[again:], offsets[again:]
        if not messages:
            return None, place
    headers = headers_of(messages)
    values: list[Any] = list(map(Message.value, messages))
    for at in unreadable(headers):
        values[at] = None  # no service of ours writes such: it counts as foreign, whatever its value
    rows, sound = log_stamps(headers) if source.log else prefixes(values)
    writer, valid = of_writer(rows, place.writer) if source.log else (place.writer, EVERY)
    rows, own = rows[valid], sound[valid]
    seqs, fresh, following = dense(rows, place.seq, f"{topic}[{partition}]", source.log)
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


def _say_dropped(topic: str, came: int, sound: int, own: int, kept: int) -> None:
    for reason, count in (("foreign", came - sound), ("void", sound - own), ("repeated", own - kept)):
        if count:
            DROPPED.labels(topic, reason).inc(count)
