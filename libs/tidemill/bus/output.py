"""What a worker's output has already, so that nothing is said twice and nothing is left out (R1)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from tidemill.bus import heads
from tidemill.bus.fold import I8, OutputTopic, Rows
from tidemill.bus.metrics import FAILED, SUPPRESSED, WRITTEN
from tidemill.bus.snapshot import OutputMark
from tidemill.bus.tail import OutputAheadOfLog, Tail
from tidemill.events.fixed import taken
from tidemill.events.log_header import PREFIX


@dataclass
class Output:
    """One output partition of a worker: what it held at the start, and the next number."""

    spec: OutputTopic
    topic: str
    partition: int
    tail: Tail | None = None
    own: bool = True
    """Whether the tail was made by this code: else it is only to stand at the same place for the same event."""
    said: set[bytes] = field(default_factory=set)
    """The event ids that a shared topic held at the start."""
    mark: OutputMark = field(default_factory=lambda: OutputMark(0))

    def covers(self, mark: OutputMark) -> bool:
        """Whether the topic still holds all that a state with this mark has said. If not, the state must not be used."""
        if self.spec.tail == "scan":
            return not mark.newest or mark.newest.encode() in self.said
        return mark.seq <= (self.tail.seq + 1 if self.tail else 0)

    def fresh(self, rows: Rows) -> Rows:
        """The rows that the topic does not have.

        Raises RuntimeError where the fold's numbers are not dense, OutputAheadOfLog where the topic's newest record is another one
        than the fold makes at its place.
        """
        if rows.seq != self.mark.seq:
            raise RuntimeError(f"{self.topic}: the fold numbers a row {rows.seq} where {self.mark.seq} comes next")
        fresh = self._unsaid(rows) if self.spec.tail == "scan" else self._beyond_tail(rows)
        SUPPRESSED.labels(self.topic).inc(len(rows) - len(fresh))
        WRITTEN.labels(self.topic).inc(len(fresh))
        FAILED.labels(self.topic).inc(rows.failed)
        return fresh

    def _beyond_tail(self, rows: Rows) -> Rows:
        self.mark = OutputMark(rows.seq + len(rows))
        if self.tail is None or rows.seq > self.tail.seq:
            return rows
        at = self.tail.seq - rows.seq
        if at < len(rows) and not self._agrees(self.tail, rows.keys.get(at), rows.values[at]):
            raise OutputAheadOfLog(
                f"output ahead of its log: record {self.tail.seq} of {self.topic}[{self.partition}] is not what this fold makes of its "
                "input: the log was replaced, or the fold's code has changed; remove what was derived, or restore the log"
            )
        return _rows(rows, np.arange(min(at + 1, len(rows)), len(rows)))

    def _agrees(self, tail: Tail, key: bytes | None, value: bytes) -> bool:
        if self.own:
            return value == tail.value
        return (key, value[: PREFIX.itemsize]) == (tail.key, tail.value[: PREFIX.itemsize])

    def _unsaid(self, rows: Rows) -> Rows:
        ids = [dict(heads.read(head))["ce_id"] for head in rows.heads or ()]
        self.mark = OutputMark(rows.seq + len(rows), ids[-1].decode() if ids else self.mark.newest)
        return _rows(rows, np.array([at for at, one in enumerate(ids) if one not in self.said], np.int64))


def _rows(rows: Rows, keep: I8) -> Rows:
    """Some of the rows."""
    if len(keep) == len(rows):
        return rows
    return replace(
        rows,
        seq=rows.seq + (int(keep[0]) if len(keep) else len(rows)),
        keys=rows.keys.chosen(keep),
        values=rows.values.chosen(keep),
        heads=None if rows.heads is None else rows.heads.chosen(keep),
        cause=None if rows.cause is None else rows.cause[keep],
        hop=None if rows.hop is None else rows.hop[keep],
        about=None if rows.about is None else taken(rows.about, keep),
        links=None if rows.links is None else taken(rows.links, keep),
    )
