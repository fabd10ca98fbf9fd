"""The values of ingest: raw records on their way, what became of each, and the state that a log restores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.events.log import ModelSwitched
from tidemill.spec import Bundle

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

NEVER: Final = int(np.iinfo(np.int64).min)
"""Before all times."""
ALWAYS: Final = int(np.iinfo(np.int64).max)
"""After all times."""


class Lane(NamedTuple):
    """One partition of one raw topic of the stream."""

    source: str
    partition: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """Consecutive records of one lane, as they were read."""

    lane: Lane
    offsets: I64
    times: I64
    """When the broker appended each, us: "now" for the judgement of its times (R7)."""
    values: Sequence[bytes | None]
    origins: Sequence[Any]
    """What the adapter needs to write a dead letter of each; nobody else looks into it."""
    unframed: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """By index: why it cannot be known which schema wrote a record, and what to tell of it."""


@dataclass(frozen=True, slots=True)
class Dead:
    """A raw record that will not be in the log."""

    lane: Lane
    offset: int
    reason: str
    message: str
    origin: Any


@dataclass(frozen=True, slots=True)
class Promise:
    """A feed's word, at a place in a lane: nothing known before `until` follows here (and nothing at all when `ended`)."""

    offset: int
    until: int
    ended: bool


@dataclass(slots=True)
class RawRows:
    """Decoded raw records as columns of one length."""

    key: I64
    """Merge key: known time, but never less than that of an earlier row of the lane; us."""
    known: I64
    latest: I64
    """The later of known and event time; us."""
    source: npt.NDArray[np.uint8]
    """Index in the spec's order."""
    partition: npt.NDArray[np.uint16]
    offset: I64
    ident: U64
    """Hash of the id, salted by the source."""
    content: U64
    """Hash of the whole value."""
    ids: list[str]
    values: list[bytes]
    origins: list[Any]

    def __len__(self) -> int:
        return len(self.ids)

    def cut(self, begin: int, end: int) -> RawRows:
        """The rows [begin, end)."""
        part = slice(begin, end)
        return self._each(lambda column: column[part])

    def take(self, index: npt.NDArray[np.intp]) -> RawRows:
        """The rows of an index, in its order."""
        picks = index.tolist()
        return self._each(lambda column: column[index] if isinstance(column, np.ndarray) else [column[i] for i in picks])

    def _each(self, change: Any) -> RawRows:
        return RawRows(*(change(getattr(self, name)) for name in _COLUMNS))

    @staticmethod
    def joined(parts: Sequence[RawRows]) -> RawRows:
        """All rows of the parts, one part after the other."""
        if len(parts) == 1:
            return parts[0]
        columns = {name: _join([getattr(part, name) for part in parts]) for name in _COLUMNS}
        return RawRows(**columns)

    @staticmethod
    def none() -> RawRows:
        """No rows."""
        columns: dict[str, Any] = {name: np.empty(0, _TYPES[name]) if name in _TYPES else [] for name in _COLUMNS}
        return RawRows(**columns)


_COLUMNS = ("key", "known", "latest", "source", "partition", "offset", "ident", "content", "ids", "values", "origins")
_TYPES = {
    "key": "i8", "known": "i8", "latest": "i8", "source": "u1", "partition": "u2", "offset": "i8", "ident": "u8", "content": "u8",
}  # fmt: skip


def _join(columns: Sequence[Any]) -> Any:
    if not columns or not isinstance(columns[0], np.ndarray):
        return [item for column in columns for item in column]
    return np.concatenate(columns)


@dataclass(frozen=True, slots=True)
class Level:
    """All lanes have promised `until`: log.Progressed."""

    until: int
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Switch:
    """A verified rollout order that every serving worker is ready for: log.ModelSwitched (R12)."""

    event: ModelSwitched

    @property
    def at(self) -> int:
        """The known time that it waits for."""
        return self.event.effective_at


@dataclass(frozen=True, slots=True)
class Switched:
    """The newest switch of a model in the log."""

    event: ModelSwitched
    offset: int
    time: int
    """The stream time that its record's header bears, us."""


@dataclass
class State:
    """One shard's writer: all of it follows from the log (and from where the log's raw records end in their topics)."""

    stream: str
    shard: int
    writer: int = 0
    seq: int = -1
    """Of the newest valid record."""
    offset: int = 0
    """Of the next record of the log."""
    time: int = 0
    """Stream time (R7), us."""
    known: int = NEVER
    """The greatest known time so far."""
    newest: dict[str, int] = field(default_factory=dict)
    """Newest accepted known time by source."""
    passed: dict[Lane, int] = field(default_factory=dict)
    """The raw offset below which every record has been judged: it is in the log, a repeat, dead, or another shard's."""
    floor: dict[Lane, int] = field(default_factory=dict)
    """The least merge key (us) that a row of the lane can have from `passed` on; its own promises from there on will be read again."""
    promised: int = NEVER
    """The newest log.Progressed."""
    replaying: bool = False
    """Whether the newest log.Progressed leaves more to come."""
    last: tuple[int, int, int] = (NEVER, 0, 0)
    """The greatest merge rank (key, source, partition) of the replay so far: a row below it was judged before a restart."""
    ids: Ids = field(default_factory=lambda: Ids())
    switches: dict[str, Switched] = field(default_factory=dict)
    """By model."""
    bundle: Bundle | None = None
    """The adopted spec."""


ENTRY: Final = np.dtype([("key", "<u8"), ("content", "<u8"), ("time", "<i8"), ("offset", "<i8")])
"""An accepted event: hashes of its id and of its value, the stream time at which it was accepted, its place in the log."""


@dataclass
class Ids:
    """The accepted ids of the `dedupe` horizon: a ring in log order, and an open-addressed table into it."""

    ring: npt.NDArray[np.void] = field(default_factory=lambda: np.zeros(1024, ENTRY))
    slots: I64 = field(default_factory=lambda: np.zeros(4096, np.int64))
    """0, or one more than the ring index (counted from the beginning of time)."""
    span: I64 = field(default_factory=lambda: np.zeros(2, np.int64))
    """Ring indexes of the oldest entry and behind the newest."""

    def __len__(self) -> int:
        return int(self.span[1] - self.span[0])
