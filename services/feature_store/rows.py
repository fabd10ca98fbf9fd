"""What a batch yields, in log order, numbered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.feature_store.columns import I8, U8
from tidemill.bus.fold import ABOUT, Batch, Rows
from tidemill.events import features, log_header, wire
from tidemill.events.blobs import Blobs
from tidemill.events.fixed import dtype_of, joined, taken
from tidemill.events.identity import hash64, hash64_many
from tidemill.features import labels
from tidemill.features.plan import LabelPlan, TriggerPlan

OUTPUT = "features"
HOPS = ("vector", "outcome", "unlabelled", "failed", "control")
"""Names of the spans of rows, by `Rows.hop`."""
VECTOR, OUTCOME, UNLABELLED, FAILED, CONTROL = range(len(HOPS))

_DTYPES = {kind: dtype_of(kind.SCHEMA) for kind in (features.Outcome, features.Unlabelled, features.Failed)}
_REASONS = {symbol: 2 * number for number, symbol in enumerate(("undecodable", "bad_value", "no_spec"))}
"""An enum's byte is the zigzag of its symbol's index."""
_BEFORE, _OWN = 0, 1
"""At one position, what its stream time ends comes before what it says itself."""


@dataclass
class _Part:
    """Fixed-width rows of one kind; `index` is each one's cause in the batch, `keyed` whether it takes its cause's key."""

    index: I8
    rows: npt.NDArray[np.void]
    hop: int
    place: int
    keyed: bool
    about: npt.NDArray[np.void]
    failed: bool = False


class Output:
    """Collects a batch's rows by kind, then puts them in order and numbers them."""

    def __init__(self, stream: str, batch: Batch, seq: int) -> None:
        self._stream, self._batch, self._seq = stream, batch, seq
        assert batch.log is not None
        self._heads = batch.log
        self._parts: list[_Part] = []
        self._copies: list[int] = []

    def vectors(self, index: I8, rows: npt.NDArray[np.void], trigger: TriggerPlan) -> None:
        """The vectors of the triggers at `index`."""
        about = self._about(trigger.source, rows["id_hash"], rows["position"])
        self._parts.append(_Part(index, rows, VECTOR, _OWN, True, about))

    def joined(self, found: npt.NDArray[np.void], begin: int, label: LabelPlan, ids: Mapping[str, int]) -> None:
        """What became of triggers: JOINED rows of one model, whose `cause` counts from `begin`."""
        outcome, null = found["what"] == labels.OUTCOME, found["what"] == labels.NULL_LABEL
        for kind, chosen, place, keyed in (
            (features.Outcome, outcome, _OWN, True),
            (features.Unlabelled, null, _OWN, True),
            (features.Unlabelled, ~outcome & ~null, _BEFORE, False),
        ):
            if chosen.any():
                self._join(kind, taken(found, chosen), begin, place, keyed, label, ids)

    def failed(self, index: I8, reason: str, ids: Mapping[str, int]) -> None:
        """Positions that yield no vector."""
        if len(index):
            rows = self._begin(features.Failed, index, ids)
            rows["id_hash"] = hash64_many(self._batch.keys.chosen(index))
            rows["reason"] = _REASONS[reason]
            self._parts.append(_Part(index, rows, FAILED, _OWN, True, np.zeros(len(index), ABOUT), failed=True))

    def copies(self, index: I8) -> None:
        """Control records that go on as they are, at their place."""
        self._copies += index.tolist()

    def rows(self) -> Rows:
        """Everything in log order; at one position first what its stream time ended, then its own rows."""
        parts, copies = self._parts, np.array(self._copies, np.int64)
        index = np.concatenate([*(part.index for part in parts), copies])
        order = np.argsort(2 * index + self._each(lambda part: part.place, _OWN), kind="stable")  # sorted stretches: it merges
        seqs = np.empty(len(index), np.int64)
        seqs[order] = np.arange(self._seq, self._seq + len(index))
        values, causes = self._values(seqs), index[order]
        return Rows(
            output=OUTPUT,
            seq=self._seq,
            keys=self._batch.keys.chosen(causes).where(self._each(lambda part: part.keyed, True)[order]),
            values=values.chosen(order),
            cause=causes,
            hop=self._each(lambda part: part.hop, CONTROL)[order].astype(np.uint8),
            about=taken(joined([*(part.about for part in parts), np.zeros(len(copies), ABOUT)]), order),
            failed=sum(len(part.index) for part in parts if part.failed),
        )

    def _each(self, of: Callable[[_Part], int], copied: int) -> npt.NDArray[Any]:
        """What `of` says of each row's part, and `copied` of each copy."""
        counts = [*(len(part.index) for part in self._parts), len(self._copies)]
        return np.repeat([*(of(part) for part in self._parts), copied], counts)

    def _values(self, seqs: I8) -> Blobs:
        """The rows' bytes by part, numbered, and behind them the copies."""
        *mine, rest = np.split(seqs, np.cumsum([len(part.index) for part in self._parts], dtype=np.int64))
        for part, numbers in zip(self._parts, mine, strict=True):
            part.rows["seq"] = numbers
        copied = [self._copied(at, seq) for at, seq in zip(self._copies, rest.tolist(), strict=True)]
        return Blobs.concat([*(Blobs.rows(part.rows) for part in self._parts), Blobs.of(copied)])

    def _join(
        self, kind: type[features.Outcome | features.Unlabelled], found: npt.NDArray[np.void], begin: int, place: int, keyed: bool,
        label: LabelPlan, ids: Mapping[str, int],
    ) -> None:  # fmt: skip
        index = found["cause"] + begin
        rows = self._begin(kind, index, ids)
        rows["trigger_position"], rows["trigger_time"] = found["position"], found["time"]
        rows["id_hash"], rows["model"] = found["id_hash"], label.model_hash
        if kind is features.Outcome:
            rows["known_time"], rows["label"] = self._heads["known"][index], found["label"]
        else:
            rows["reason"] = 2 * (found["what"] - labels.EXPIRED)
        about = self._about(label.trigger_source, found["id_hash"], found["position"])
        hop = OUTCOME if kind is features.Outcome else UNLABELLED
        self._parts.append(_Part(index, rows, hop, place, keyed, about))

    def _begin(
        self, kind: type[features.Outcome | features.Unlabelled | features.Failed], index: I8, ids: Mapping[str, int]
    ) -> npt.NDArray[np.void]:
        rows = np.zeros(len(index), _DTYPES[kind])
        rows["frame"] = np.void(wire.frame(ids.get(kind.full_name(), 0), b""))
        rows["position"], rows["stream_time"] = self._batch.offsets[index], self._heads["stream"][index]
        return rows

    def _about(self, source: str, id_hash: U8, position: npt.NDArray[np.generic]) -> npt.NDArray[np.void]:
        about = np.zeros(len(id_hash), ABOUT)
        about["trace_high"] = hash64(f"{self._stream}/{source}".encode())
        about["id_hash"], about["position"] = id_hash, position
        return about

    def _copied(self, at: int, seq: int) -> bytes:
        return log_header.restamp(self._batch.values[at], seq, int(self._batch.offsets[at]), int(self._heads["stream"][at]))
