"""The label join: triggers wait for their label; a label finds its trigger, a trigger its early label, or time runs out.

A label counts where the stream time of its record is at most `within` past the trigger's event time, whatever else waits. At the
first record after it whose stream time is later the trigger expires. A label that came first is remembered as long.

Entries (a waiting trigger, or a label that came first) stand in a ring in log order. A table maps the match key to the first and
last entry of its chain; chains link forward. Every entry ends exactly once: joined, expired, or ended with its source. A trigger
without a key waits like any other, and no label finds it.

Most entries run out of time in log order, at the ring's beginning. Those that do so before an older one, since they became known long
after their event time, stand in a heap as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.compiled import bare_kernel, bare_part
from tidemill.features.plan import LabelPlan

TRIGGER: Final = 1
LABEL: Final = 2
ENDED: Final = 3
"""What a record is to the join; 0: only its stream time counts."""

OUTCOME: Final = 0
EXPIRED: Final = 1
SOURCE_ENDED: Final = 2
NULL_LABEL: Final = 3
"""What became of a trigger. The last three are `features.UnlabelledReason` in its order, plus one."""


class Records(NamedTuple):
    """n records as the join sees them, a column each."""

    kind: npt.NDArray[np.int64]
    """TRIGGER, LABEL, ENDED or 0."""
    key: npt.NDArray[np.uint64]
    """What a trigger and its label have in common; 0 where there is none."""
    time: npt.NDArray[np.int64]
    """Event time, us."""
    stream: npt.NDArray[np.int64]
    """Stream time, us."""
    position: npt.NDArray[np.int64]
    id_hash: npt.NDArray[np.uint64]
    label: npt.NDArray[np.float64]
    """NaN where null or none."""


_LINKED: Final = 3
"""An entry that has ended where its chain could not let go of it."""

ENTRIES: Final = np.dtype(
    [("key", "u8"), ("time", "i8"), ("position", "i8"), ("id_hash", "u8"), ("label", "f8"), ("next", "i8"), ("state", "i8")]
)
"""`state`: 0 done, TRIGGER waiting, LABEL early, or _LINKED; `next`: the number of the chain's next entry, -1 at its end; `time`: a
trigger's event time, or the stream time at which a label came.
"""

JOINED: Final = np.dtype([("cause", "i8"), ("what", "i8"), ("position", "i8"), ("time", "i8"), ("id_hash", "u8"), ("label", "f8")])
"""What came out: by which record of the batch, and of the trigger its position, event time and id."""

_FIRST = 256
_NEVER: Final = np.iinfo(np.int64).min
_ALWAYS: Final = np.iinfo(np.int64).max


@bare_part
def _slot(keys, heads, key):  # type: ignore[no-untyped-def]
    mask = np.uint64(keys.shape[0] - 1)
    at = key & mask
    while heads[at] >= 0 and keys[at] != key:
        at = (at + np.uint64(1)) & mask
    return np.int64(at)


@bare_part
def _remove(keys, heads, tails, at):  # type: ignore[no-untyped-def]
    """Empty a slot and move back what linear probing had pushed on (Knuth, TAOCP 3, 6.4, algorithm R)."""
    mask = keys.shape[0] - 1
    hole = at
    probe = (at + 1) & mask
    while heads[probe] >= 0:
        home = np.int64(keys[probe] & np.uint64(mask))
        if (probe - home) & mask >= (probe - hole) & mask:
            keys[hole], heads[hole], tails[hole] = keys[probe], heads[probe], tails[probe]
            hole = probe
        probe = (probe + 1) & mask
    heads[hole] = -1


@bare_part
def _emit(out, made, cause, what, position, time, id_hash, label):  # type: ignore[no-untyped-def]
    row = out[made]
    row["cause"], row["what"], row["position"], row["time"] = cause, what, position, time
    row["id_hash"], row["label"] = id_hash, label
    return made + 1


@bare_part
def _end(out, made, cause, what, entry, label):  # type: ignore[no-untyped-def]
    """What became of a trigger that waited."""
    return _emit(out, made, cause, what, entry["position"], entry["time"], entry["id_hash"], label)


@bare_part
def _link(ring, keys, heads, tails, number):  # type: ignore[no-untyped-def]
    """Put an entry at the end of its key's chain."""
    key = ring[number & (ring.shape[0] - 1)]["key"]
    at = _slot(keys, heads, key)
    if heads[at] < 0:
        keys[at], heads[at] = key, number
    else:
        ring[tails[at] & (ring.shape[0] - 1)]["next"] = number
    tails[at] = number


@bare_part
def _queue(late, bounds, time, number):  # type: ignore[no-untyped-def]
    """Take down when a new entry's turn to expire comes: after all others, or else by the heap."""
    if time >= bounds[3]:
        bounds[3] = time
        return
    at = bounds[2]
    while at > 0 and late[(at - 1) // 2, 0] > time:
        late[at, 0], late[at, 1] = late[(at - 1) // 2, 0], late[(at - 1) // 2, 1]
        at = (at - 1) // 2
    late[at, 0], late[at, 1] = time, number
    bounds[2] += 1


@bare_part
def _sooner(time, number, other_time, other_number):  # type: ignore[no-untyped-def]
    return time < other_time or (time == other_time and number < other_number)


@bare_part
def _unqueue(late, bounds):  # type: ignore[no-untyped-def]
    """Let go of the heap's first: its last one sinks from there to its place."""
    bounds[2] -= 1
    size, at, child = bounds[2], 0, 1
    time, number = late[size, 0], late[size, 1]
    while child < size:
        if child + 1 < size and _sooner(late[child + 1, 0], late[child + 1, 1], late[child, 0], late[child, 1]):
            child += 1
        if not _sooner(late[child, 0], late[child, 1], time, number):
            break
        late[at, 0], late[at, 1] = late[child, 0], late[child, 1]
        at, child = child, 2 * child + 1
    late[at, 0], late[at, 1] = time, number


@bare_part
def _push(ring, bounds, late, keys, heads, tails, records, i, key, time):  # type: ignore[no-untyped-def]
    number = bounds[1]
    entry = ring[number & (ring.shape[0] - 1)]
    entry["key"], entry["time"], entry["position"], entry["next"] = key, time, records.position[i], -1
    entry["id_hash"], entry["label"], entry["state"] = records.id_hash[i], records.label[i], records.kind[i]
    _link(ring, keys, heads, tails, number)
    _queue(late, bounds, time, number)
    bounds[1] = number + 1


@bare_kernel
def _chain(ring, bounds, late, keys, heads, tails):  # type: ignore[no-untyped-def]
    """Make the chains, the table of them, and the heap, of all entries that wait."""
    for number in range(bounds[0], bounds[1]):
        entry = ring[number & (ring.shape[0] - 1)]
        entry["next"] = -1
        if entry["state"] == _LINKED:
            entry["state"] = 0
        if entry["state"] != 0:
            _link(ring, keys, heads, tails, number)
            _queue(late, bounds, entry["time"], number)


@bare_part
def _pop(ring, bounds, keys, heads, tails):  # type: ignore[no-untyped-def]
    """Let go of the oldest entry; one that its chain still has is the first there."""
    entry = ring[bounds[0] & (ring.shape[0] - 1)]
    if entry["state"] != 0:
        at = _slot(keys, heads, entry["key"])
        if entry["next"] >= 0:
            heads[at] = entry["next"]
        else:
            _remove(keys, heads, tails, at)
        entry["state"] = 0
    bounds[0] += 1


@bare_kernel
def join(begin, records, within, ring, bounds, late, keys, heads, tails, out, made):  # type: ignore[no-untyped-def]
    """Fold records `begin`..; returns (next record, rows made). Stops early where the ring, the heap or `out` wants more room."""
    for i in range(begin, records.kind.shape[0]):
        kind, waiting = records.kind[i], bounds[1] - bounds[0]
        if waiting + 1 >= ring.shape[0] or made + waiting + 1 >= out.shape[0] or bounds[2] >= late.shape[0]:
            return i, made
        what = SOURCE_ENDED if kind == ENDED else EXPIRED
        due = _ALWAYS if kind == ENDED else records.stream[i] - within
        while bounds[2] > 0 and late[0, 0] < due and bounds[0] < bounds[1]:
            made = _overtake(i, what, ring, bounds, late, keys, heads, tails, out, made)
        while bounds[0] < bounds[1]:  # as a piece of its own this loop took twice the time
            entry = ring[bounds[0] & (ring.shape[0] - 1)]
            if _waits(entry) and entry["time"] >= due:
                break
            if entry["state"] == TRIGGER:
                made = _end(out, made, i, what, entry, np.nan)
            _pop(ring, bounds, keys, heads, tails)
        if kind == TRIGGER or (kind == LABEL and records.key[i] != np.uint64(0)):
            made = _meet(i, records, within, ring, bounds, late, keys, heads, tails, out, made)
    return records.kind.shape[0], made


@bare_part
def _waits(entry):  # type: ignore[no-untyped-def]
    return entry["state"] == TRIGGER or entry["state"] == LABEL


@bare_part
def _overtake(i, what, ring, bounds, late, keys, heads, tails, out, made):  # type: ignore[no-untyped-def]
    """Where the heap's first is due: end it, or the oldest entry if that is due before."""
    number, entry = bounds[0], ring[bounds[0] & (ring.shape[0] - 1)]
    if _waits(entry) and _sooner(late[0, 0], late[0, 1], entry["time"], number):
        number, entry = late[0, 1], ring[late[0, 1] & (ring.shape[0] - 1)]
        _unqueue(late, bounds)
    if number >= bounds[0] and entry["state"] == TRIGGER:
        made = _end(out, made, i, what, entry, np.nan)
    if number >= bounds[0] and entry["state"] != 0:
        entry["state"] = _LINKED
    if number == bounds[0]:
        _pop(ring, bounds, keys, heads, tails)
    return made


@bare_part
def _first(ring, heads, at):  # type: ignore[no-untyped-def]
    """The number of a chain's first entry; those before it that have ended leave the chain."""
    number = heads[at]
    entry = ring[number & (ring.shape[0] - 1)]
    while entry["state"] == _LINKED and entry["next"] >= 0:
        entry["state"] = 0
        number = entry["next"]
        heads[at] = number
        entry = ring[number & (ring.shape[0] - 1)]
    return number


@bare_part
def _meet(i, records, within, ring, bounds, late, keys, heads, tails, out, made):  # type: ignore[no-untyped-def]
    """A trigger or a label looks for its counterpart, or waits for it."""
    time, label = records.time[i], records.label[i]
    at, asks = _slot(keys, heads, records.key[i]), records.kind[i] == TRIGGER
    number, there = heads[at], 0
    if number >= 0:
        number = _first(ring, heads, at)
        there = ring[number & (ring.shape[0] - 1)]["state"]
    if there != (LABEL if asks else TRIGGER) or (asks and ring[number & (ring.shape[0] - 1)]["time"] > time + within):
        if asks or there != LABEL:  # a second label for the same key, before its trigger, tells nothing new
            # for whom a label came too late, no other comes in time
            key = np.uint64(0) if there == LABEL else records.key[i]
            _push(ring, bounds, late, keys, heads, tails, records, i, key, time if asks else records.stream[i])
        return made
    if asks:
        early = ring[number & (ring.shape[0] - 1)]
        what = NULL_LABEL if np.isnan(early["label"]) else OUTCOME
        made = _emit(out, made, i, what, records.position[i], time, records.id_hash[i], early["label"])
        early["state"] = 0
    while number >= 0 and not asks:
        entry = ring[number & (ring.shape[0] - 1)]
        if entry["state"] == TRIGGER:
            made = _end(out, made, i, NULL_LABEL if np.isnan(label) else OUTCOME, entry, label)
        entry["state"] = 0
        number = entry["next"]
    _remove(keys, heads, tails, at)
    return made


@dataclass
class Join:
    """One model's join."""

    plan: LabelPlan
    ring: npt.NDArray[np.void]
    bounds: npt.NDArray[np.int64]
    """Numbers of the oldest entry and of the next one; how many are in the heap; the latest time of those that are not."""
    late: npt.NDArray[np.int64]
    """The heap, by time and number; some of them may have ended."""
    keys: npt.NDArray[np.uint64]
    heads: npt.NDArray[np.int64]
    tails: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, plan: LabelPlan, room: int = _FIRST, begin: int = 0) -> Join:
        """A join with room for so many entries (a power of two)."""
        size = 2 * room
        return cls(
            plan, np.zeros(room, ENTRIES), np.array([begin, begin, 0, _NEVER], np.int64), np.zeros((room, 2), np.int64),
            np.zeros(size, np.uint64), np.full(size, -1, np.int64), np.full(size, -1, np.int64),
        )  # fmt: skip

    def fold(self, records: Records) -> npt.NDArray[np.void]:
        """What becomes of triggers by these records, in log order: JOINED rows."""
        count = len(records.kind)
        out, made, begin = np.zeros(count + self.waiting + 2, JOINED), 0, 0
        while True:
            begin, made = join(
                begin, records, self.plan.within, self.ring, self.bounds, self.late, self.keys, self.heads, self.tails, out, made
            )
            if begin == count:
                return out[:made]
            if self.waiting + 1 >= len(self.ring) or self.bounds[2] >= len(self.late):
                self._grow()
            more = made + self.waiting + count - begin + 2
            out = np.concatenate([out[:made], np.zeros(max(more - made, 2), JOINED)])

    @property
    def waiting(self) -> int:
        """Entries in the ring, done ones among them."""
        return int(self.bounds[1] - self.bounds[0])

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The state, without what can be derived."""
        numbers = np.arange(self.bounds[0], self.bounds[1]) % len(self.ring)
        return {"entries": self.ring[numbers], "bounds": self.bounds[:2].copy()}

    @classmethod
    def restore(cls, plan: LabelPlan, arrays: dict[str, npt.NDArray[Any]], room: int) -> Join:
        """The join of `arrays()`, with the room it had."""
        fresh = cls.empty(plan, room)
        fresh._put(arrays["entries"], int(arrays["bounds"][0]))
        return fresh

    def under(self, plan: LabelPlan) -> Join:
        """The same triggers waiting by another rule for the same model's label.

        What a label said by the old rule is forgotten. Where the key is another one, those that wait have none.
        """
        arrays = self.arrays()
        if (plan.source, plan.value.text, plan.match) != (self.plan.source, self.plan.value.text, self.plan.match):
            arrays["entries"]["state"][arrays["entries"]["state"] == LABEL] = 0
        if (plan.trigger_source, plan.match) != (self.plan.trigger_source, self.plan.match):
            arrays["entries"]["key"][arrays["entries"]["state"] == TRIGGER] = 0
        return Join.restore(plan, arrays, len(self.ring))

    def _grow(self) -> None:
        """Twice the room; or the same, where only the heap is full, of entries that have ended."""
        grown = Join.empty(self.plan, len(self.ring) * (2 if 2 * self.waiting >= len(self.ring) else 1))
        kept = self.arrays()
        grown._put(kept["entries"], int(self.bounds[0]))
        self.ring, self.bounds, self.late = grown.ring, grown.bounds, grown.late
        self.keys, self.heads, self.tails = grown.keys, grown.heads, grown.tails

    def _put(self, entries: npt.NDArray[np.void], begin: int) -> None:
        """Fill an empty join with entries from number `begin` on."""
        self.bounds[:2] = begin, begin + len(entries)
        numbers = np.arange(begin, begin + len(entries))
        self.ring[numbers % len(self.ring)] = entries
        _chain(self.ring, self.bounds, self.late, self.keys, self.heads, self.tails)
