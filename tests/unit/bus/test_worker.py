"""What a worker keeps of a state, and whether another one can go on from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidemill.bus.fold import Batch, Input, OutputTopic, Rows, Snapshot
from tidemill.bus.output import Output
from tidemill.bus.snapshot import InputMark, OutputMark, Shelf, Stored, fingerprint
from tidemill.bus.worker import Opening, Worker
from tidemill.events.blobs import Blobs


@dataclass
class State:
    seqs: dict[str, int] = field(default_factory=lambda: {"said": 0})
    sums: np.ndarray = field(default_factory=lambda: np.zeros(1))


class Counting:
    """Says each record again, and hands out its live state as a snapshot."""

    name = "counting"
    inputs: tuple[Input, ...] = (Input("features"),)
    outputs: Mapping[str, OutputTopic] = {"said": OutputTopic("said.{stream}")}

    def digest(self, state: State) -> str:
        return "sha256:code"

    def initial(self, stream: str, partition: int) -> State:
        return State()

    def prepare(self, state: State, batch: Batch) -> None:
        """Nothing to fetch."""

    def step(self, state: State, batch: Batch) -> tuple[State, list[Rows]]:
        rows = Rows("said", state.seqs["said"], batch.keys, batch.values)
        state.seqs["said"] += len(batch)
        state.sums += len(batch)
        return state, [rows]

    def full(self, state: State) -> Collection[str]:
        return ()

    def dump(self, state: State) -> Snapshot:
        return Snapshot({"sums": state.sums}, {"seqs": state.seqs})

    def load(self, stream: str, partition: int, snapshot: Snapshot) -> State:
        return State(snapshot.meta["seqs"], snapshot.arrays["sums"])


def batch(count: int) -> Batch:
    places = np.arange(count)
    return Batch("features", "s", 0, places, places, Blobs.of([b"k"] * count), Blobs.of([b"v"] * count), {}, places)


@dataclass
class Record:
    said: bytes

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes:
        return self.said


class Topics:
    """An input with these values; nothing has been said yet."""

    def __init__(self, values: list[bytes]) -> None:
        self._values = values

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return 0, len(self._values)

    def record(self, topic: str, partition: int, offset: int) -> Record:
        return Record(self._values[offset])

    def newest(self, topic: str, partition: int, count: int) -> list[Any]:
        return []


@pytest.mark.parametrize(("values", "begin"), [([b"a", b"b", b"c", b"d"], 3), ([b"a", b"b", b"other", b"d"], 0), ([b"a", b"b"], 0)])
def test_a_snapshot_is_the_start_only_where_its_newest_record_stands_in_the_input(
    tmp_path: Path, values: list[bytes], begin: int
) -> None:
    """A topic that was made anew, or restored from elsewhere, has other records at the same offsets."""
    shelf, place = Shelf(tmp_path), InputMark(3, 3, 0, fingerprint(b"k", b"c"))
    state = {"sums": np.array([3.0])}, {"seqs": {"said": 0}}
    shelf.put(Stored("sha256:code", "sha256:code", {"features.s": place}, {"said": OutputMark(0)}, *state))
    lookup: Any = Topics(values)
    worker = Opening(Counting(), "s", 0, ["features.s"], {"features.s": 3}, shelf, lookup, lookup).open()
    assert (worker.places["features.s"].offset, worker.state.sums.tolist()) == (begin, [begin])


def test_a_snapshot_stays_what_it_was_when_the_state_moves_on(tmp_path: Path) -> None:
    fold = Counting()
    outputs = {"said": Output(fold.outputs["said"], "said.s", 0)}
    worker = Worker(fold, "s", 0, fold.initial("s", 0), outputs, {}, Shelf(tmp_path))
    worker.step(batch(3))
    stored = worker.stored()
    worker.step(batch(4))
    assert stored.outputs["said"].seq == stored.meta["seqs"]["said"] == stored.arrays["sums"][0] == 3
