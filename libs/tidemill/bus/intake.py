"""From records to batches of those that count (`sequence`), and where the reader stands after them.

All judging is over arrays. Only a batch in which something is missing, repeated or void is looked at record by record.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tidemill.bus import heads
from tidemill.bus.fold import I8, Batch, Headers, Input
from tidemill.bus.metrics import DROPPED
from tidemill.bus.records import Fetched
from tidemill.bus.sequence import EVERY, dense, of_writer
from tidemill.bus.snapshot import fingerprint
from tidemill.events.log_header import PREFIX

Newest = tuple[bytes | None, bytes | None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reader stands in one partition of an input."""

    offset: int = 0
    """The next offset to read."""
    seq: int = 0
    """The next sequence number to take."""
    writer: int = 0
    """Whose records count: the writer of the log's last barrier."""
    newest: str | Newest = ""
    """Key and value of the record before `offset`, or its fingerprint where it was read in an earlier life."""

    @property
    def fingerprint(self) -> str:
        """Tells the record before `offset` from any other; empty where there is none."""
        return self.newest if isinstance(self.newest, str) else fingerprint(*self.newest)


def intake(source: Input, topic: str, partition: int, records: Fetched, place: Place) -> tuple[Batch | None, Place]:
    """The records that count, and where the reader stands after them. Raises Gap."""
    rows, sound = records.stamps() if source.log else records.values.heads(PREFIX)
    headers, unreadable = _headers(records, own=source.log)
    if unreadable:  # no service of ours writes such: it counts as foreign, whatever its value
        readable = np.isin(sound, unreadable, invert=True)
        rows, sound = rows[readable], sound[readable]
    writer, valid = of_writer(rows, place.writer) if source.log else (place.writer, EVERY)
    rows, own = rows[valid], sound[valid]
    seqs, fresh, following = dense(rows, place.seq, f"{topic}[{partition}]", source.log)
    keep = own[fresh]
    newest = records.keys.get(-1), records.values.get(-1)
    after = replace(place, offset=int(records.offsets[-1]) + 1, seq=following, writer=writer, newest=newest)
    if len(keep) < len(records):
        _say_dropped(topic, len(records), len(sound), len(own), len(keep))
        records, headers = records.part(keep), _kept(headers, keep)
    if not len(records):
        return None, after
    log = rows[fresh] if source.log else None
    columns = records.offsets, records.times, records.keys, records.values, headers, seqs, log
    return Batch(source.name, topic.partition(".")[2], partition, *columns), after


def _headers(records: Fetched, own: bool) -> tuple[dict[int, Headers], list[int]]:
    """By index, the headers of records that have more than their `own`; and those whose headers cannot be read."""
    found, unreadable = dict[int, Headers](), list[int]()
    for at in np.flatnonzero(heads.counts(records.heads) > own).tolist():
        try:
            found[at] = heads.read(records.heads[at])
        except UnicodeDecodeError:
            unreadable.append(at)
    return found, unreadable


def _kept(headers: dict[int, Headers], keep: I8) -> dict[int, Headers]:
    """The headers of some of the records."""
    return {to: headers[at] for to, at in enumerate(keep.tolist()) if at in headers} if headers else headers


def _say_dropped(topic: str, came: int, sound: int, own: int, kept: int) -> None:
    for reason, count in (("foreign", came - sound), ("void", sound - own), ("repeated", own - kept)):
        if count:
            DROPPED.labels(topic, reason).inc(count)
