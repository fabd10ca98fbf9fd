"""The label join: triggers wait for their label; a label finds its trigger, a trigger its early label, or time runs out.

Entries (a waiting trigger, or a label that came first) stand in a ring in log order. A table maps the match key to the first and
last entry of its chain; chains link forward. Every entry ends exactly once: joined, expired, or ended with its source. A trigger
without a key waits like any other, and no label finds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tidemill.compiled import kernel, part
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

EVENTS: Final = np.dtype(
    [
        ("kind", "i8"),
        ("key", "u8"),
        ("time", "i8"),
        ("known", "i8"),
        ("stream", "i8"),
        ("position", "i8"),
        ("id_hash", "u8"),
        ("label", "f8"),
    ]
)
"""A record as the join sees it; times in us, `label` NaN where null or none."""

ENTRIES: Final = np.dtype(
    [("key", "u8"), ("time", "i8"), ("position", "i8"), ("id_hash", "u8"), ("label", "f8"), ("next", "i8"), ("state", "i8")]
)
"""`state`: 0 done, TRIGGER waiting, LABEL early; `next`: the number of the chain's next entry, -1 at its end."""

JOINED: Final = np.dtype([("cause", "i8"), ("what", "i8"), ("position", "i8"), ("time", "i8"), ("id_hash", "u8"), ("label", "f8")])
"""What came out: by which record of the batch, and of the trigger its position, event time and id."""

_FIRST = 256


@part
def _slot(keys, heads, key):  # type: ignore[no-untyped-def]
    mask = np.uint64(keys.shape[0] - 1)
    at = key & mask
    while heads[at] >= 0 and keys[at] != key:
        at = (at + np.uint64(1)) & mask
    return np.int64(at)


@part
def _remove(keys, heads, tails, at):  # type: ignore[no-untyped-def]
    """Empty a slot and move back what linear probing had pushed on (Knuth, TAOCP 3, 6.4, algorithm R)."""
    size = keys.shape[0]
    hole = at
    probe = (at + 1) % size
    while heads[probe] >= 0:
        home = np.int64(keys[probe] & np.uint64(size - 1))
        if (probe - home) % size >= (probe - hole) % size:
            keys[hole], heads[hole], tails[hole] = keys[probe], heads[probe], tails[probe]
            hole = probe
        probe = (probe + 1) % size
    heads[hole] = -1


@part
def _emit(out, made, cause, what, entry, label):  # type: ignore[no-untyped-def]
    row = out[made]
    row["cause"], row["what"], row["position"], row["time"] = cause, what, entry["position"], entry["time"]
    row["id_hash"], row["label"] = entry["id_hash"], label
    return made + 1


@part
def _link(ring, keys, heads, tails, number):  # type: ignore[no-untyped-def]
    """Put an entry at the end of its key's chain."""
    key = ring[number % ring.shape[0]]["key"]
    at = _slot(keys, heads, key)
    if heads[at] < 0:
        keys[at], heads[at] = key, number
    else:
        ring[tails[at] % ring.shape[0]]["next"] = number
    tails[at] = number


@part
def _push(ring, bounds, keys, heads, tails, event, state):  # type: ignore[no-untyped-def]
    number = bounds[1]
    entry = ring[number % ring.shape[0]]
    entry["key"], entry["time"], entry["position"] = event["key"], event["time"], event["position"]
    entry["id_hash"], entry["label"], entry["next"], entry["state"] = event["id_hash"], event["label"], -1, state
    _link(ring, keys, heads, tails, number)
    bounds[1] = number + 1


@kernel
def _chain(ring, bounds, keys, heads, tails):  # type: ignore[no-untyped-def]
    """Make the chains, and the table of them, of all entries that wait."""
    for number in range(bounds[0], bounds[1]):
        entry = ring[number % ring.shape[0]]
        entry["next"] = -1
        if entry["state"] != 0:
            _link(ring, keys, heads, tails, number)


@part
def _pop(ring, bounds, keys, heads, tails):  # type: ignore[no-untyped-def]
    """Let go of the oldest entry; one that still waited is the first of its chain."""
    entry = ring[bounds[0] % ring.shape[0]]
    if entry["state"] != 0:
        at = _slot(keys, heads, entry["key"])
        if entry["next"] >= 0:
            heads[at] = entry["next"]
        else:
            _remove(keys, heads, tails, at)
        entry["state"] = 0
    bounds[0] += 1


@kernel
def join(begin, events, within, ring, bounds, keys, heads, tails, out, made):  # type: ignore[no-untyped-def]
    """Fold events `begin`..; returns (next event, rows made). Stops early where the ring, the table or `out` wants more room."""
    for i in range(begin, events.shape[0]):
        event = events[i]
        waiting = bounds[1] - bounds[0]
        if waiting + 1 >= ring.shape[0] or made + waiting + 1 >= out.shape[0]:
            return i, made
        while bounds[0] < bounds[1]:
            entry = ring[bounds[0] % ring.shape[0]]
            if entry["state"] != 0 and event["kind"] != ENDED and entry["time"] + within >= event["stream"]:
                break
            if entry["state"] == TRIGGER:
                made = _emit(out, made, i, SOURCE_ENDED if event["kind"] == ENDED else EXPIRED, entry, np.nan)
            _pop(ring, bounds, keys, heads, tails)
        if event["kind"] == TRIGGER and event["key"] == np.uint64(0):
            _push(ring, bounds, keys, heads, tails, event, TRIGGER)
        elif event["kind"] == TRIGGER or (event["kind"] == LABEL and event["key"] != np.uint64(0)):
            made = _meet(i, event, ring, bounds, keys, heads, tails, out, made)
    return events.shape[0], made


@part
def _meet(i, event, ring, bounds, keys, heads, tails, out, made):  # type: ignore[no-untyped-def]
    """A trigger or a label looks for its counterpart, or waits for it."""
    at = _slot(keys, heads, event["key"])
    number = heads[at]
    if number < 0 or ring[number % ring.shape[0]]["state"] == event["kind"]:
        if event["kind"] == TRIGGER or number < 0:  # a second label for the same key, before its trigger, tells nothing new
            _push(ring, bounds, keys, heads, tails, event, event["kind"])
        return made
    if event["kind"] == TRIGGER:
        early = ring[number % ring.shape[0]]
        made = _emit(out, made, i, NULL_LABEL if np.isnan(early["label"]) else OUTCOME, event, early["label"])
        early["state"] = 0
    while number >= 0 and event["kind"] == LABEL:
        entry = ring[number % ring.shape[0]]
        made = _emit(out, made, i, NULL_LABEL if np.isnan(event["label"]) else OUTCOME, entry, event["label"])
        entry["state"] = 0
        number = entry["next"]
    _remove(keys, heads, tails, at)
    return made


@dataclass
class Join:
    """One model's join. `bounds` are the numbers of the oldest entry and of the next one."""

    plan: LabelPlan
    ring: npt.NDArray[np.void]
    bounds: npt.NDArray[np.int64]
    keys: npt.NDArray[np.uint64]
    heads: npt.NDArray[np.int64]
    tails: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, plan: LabelPlan, room: int = _FIRST, begin: int = 0) -> Join:
        """A join with room for so many entries (a power of two)."""
        size = 2 * room
        return cls(
            plan, np.zeros(room, ENTRIES), np.array([begin, begin], np.int64), np.zeros(size, np.uint64),
            np.full(size, -1, np.int64), np.full(size, -1, np.int64),
        )  # fmt: skip

    def fold(self, events: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
        """What becomes of triggers by these records (EVENTS, in log order), in order: JOINED rows."""
        out, made, begin = np.zeros(len(events) + self.waiting + 2, JOINED), 0, 0
        while True:
            begin, made = join(
                begin, events, self.plan.within, self.ring, self.bounds, self.keys, self.heads, self.tails, out, made
            )
            if begin == len(events):
                return out[:made]
            if self.waiting + 1 >= len(self.ring):
                self._grow()
            more = made + self.waiting + len(events) - begin + 2
            out = np.concatenate([out[:made], np.zeros(max(more - made, 2), JOINED)])

    @property
    def waiting(self) -> int:
        """Entries in the ring, done ones among them."""
        return int(self.bounds[1] - self.bounds[0])

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The state, without what can be derived."""
        numbers = np.arange(self.bounds[0], self.bounds[1]) % len(self.ring)
        return {"entries": self.ring[numbers], "bounds": self.bounds.copy()}

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
        """Twice the room."""
        grown = Join.empty(self.plan, 2 * len(self.ring))
        kept = self.arrays()
        grown._put(kept["entries"], int(self.bounds[0]))
        self.ring, self.keys, self.heads, self.tails = grown.ring, grown.keys, grown.heads, grown.tails

    def _put(self, entries: npt.NDArray[np.void], begin: int) -> None:
        """Fill an empty join with entries from number `begin` on."""
        self.bounds[:] = begin, begin + len(entries)
        numbers = np.arange(begin, begin + len(entries))
        self.ring[numbers % len(self.ring)] = entries
        _chain(self.ring, self.bounds, self.keys, self.heads, self.tails)
