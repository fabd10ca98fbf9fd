"""What a worker keeps of a state is not touched by the steps that follow: it is written in another thread meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tidemill.bus.fold import Batch, Input, OutputTopic, Rows, Snapshot
from tidemill.bus.output import Output
from tidemill.bus.snapshot import Shelf
from tidemill.bus.worker import Worker


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
    return Batch("features", "s", 0, places, places, [b"k"] * count, [b"v"] * count, [None] * count, places)


def test_a_snapshot_stays_what_it_was_when_the_state_moves_on(tmp_path: Path) -> None:
    fold = Counting()
    outputs = {"said": Output(fold.outputs["said"], "said.s", 0)}
    worker = Worker(fold, "s", 0, fold.initial("s", 0), outputs, {}, Shelf(tmp_path))
    worker.step(batch(3))
    stored = worker.stored()
    worker.step(batch(4))
    assert stored.outputs["said"].seq == stored.meta["seqs"]["said"] == stored.arrays["sums"][0] == 3
