"""Small folds for the tests of the loop, run as processes of their own: `python toy_folds.py FOLD DATA_DIR ...`.

`relay` reads a log and keeps a sum per bucket; each event yields none, one or two `Vector`s. `echo` answers each Vector with one
record. `watch` merges both by position and says an event per thousand pairs into a topic that several writers may share.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tidemill.bus import heads
from tidemill.bus.fold import ABOUT, Batch, Input, OutputTopic, Rows, Snapshot
from tidemill.bus.loop import run
from tidemill.bus.pace import Pace
from tidemill.errors import Transient
from tidemill.events.blobs import Blobs
from tidemill.events.identity import hash64_many
from tidemill.events.log_header import EVENT, LOG_HEADER, PREFIX
from tidemill.events.schema_registry import Registry
from tidemill.settings import Settings
from tidemill.telemetry import trace_high

STAMP = [{"name": name, "type": "double"} for name in ("seq", "position", "stream_time")]
HASH = {"name": "id_hash", "type": {"type": "fixed", "name": "Hash", "size": 8}}
VECTOR = {"type": "record", "name": "Vector", "namespace": "toy", "fields": [*STAMP, HASH, {"name": "total", "type": "double"}]}
ECHO = {"type": "record", "name": "Echo", "namespace": "toy", "fields": [*STAMP, {"name": "twice", "type": "double"}]}
VECTOR_ROW = np.dtype([*((name, PREFIX[name]) for name in PREFIX.names), ("id_hash", "<u8"), ("total", "<f8")])
ECHO_ROW = np.dtype([*((name, PREFIX[name]) for name in PREFIX.names), ("twice", "<f8")])
BUCKETS = 97


def frame(schema_id: int) -> np.void:
    return np.void(b"\0" + schema_id.to_bytes(4, "big"))


@dataclass
class Relay:
    """Sums per bucket of the numbers that are the events' values."""

    schema: int
    code: str = "1"
    away: int = 0
    name: str = "relay"
    inputs: tuple[Input, ...] = (Input("log", log=True),)
    outputs: dict[str, OutputTopic] = field(
        default_factory=lambda: {"features": OutputTopic("features.{stream}", hops=("vector", "second"))}
    )

    def digest(self, state: dict[str, Any]) -> str:
        return f"relay-{self.code}"

    def initial(self, stream: str, partition: int) -> dict[str, Any]:
        return {"stream": stream, "sums": np.zeros(BUCKETS), "seq": 0}

    def prepare(self, state: dict[str, Any], batch: Batch) -> None:
        if self.away:
            self.away -= 1
            raise Transient("the schemas are away")

    def step(self, state: dict[str, Any], batch: Batch) -> tuple[dict[str, Any], list[Rows]]:
        assert batch.log is not None
        kept = np.flatnonzero(batch.log["kind"] == EVENT)
        numbers = np.array([batch.values[at] for at in kept]).astype(np.int64)
        totals = np.empty(len(kept))
        for at, number in enumerate(numbers):
            state["sums"][number % BUCKETS] += number * 0.1
            totals[at] = state["sums"][number % BUCKETS]
        copies = np.where(numbers % 3 == 0, 0, np.where(numbers % 5 == 0, 2, 1))
        cause = np.repeat(kept, copies)
        rows = np.zeros(len(cause), VECTOR_ROW)
        rows["frame"], rows["seq"] = frame(self.schema), state["seq"] + np.arange(len(cause))
        rows["position"], rows["stream_time"] = batch.offsets[cause], batch.log["stream"][cause]
        keys = batch.keys.chosen(cause)
        rows["id_hash"], rows["total"] = hash64_many(keys), np.repeat(totals, copies)
        about = np.zeros(len(rows), ABOUT)
        about["trace_high"], about["id_hash"], about["position"] = (
            trace_high(batch.stream, "toy"),
            rows["id_hash"],
            batch.offsets[cause],
        )
        hop = np.concatenate([np.arange(count) for count in copies]).astype(np.uint8) if len(copies) else np.zeros(0, np.uint8)
        said = Rows("features", state["seq"], keys, Blobs.rows(rows), cause=cause, about=about, hop=hop)
        state["seq"] += len(rows)
        return state, [said]

    def full(self, state: dict[str, Any]) -> Collection[str]:
        return ()

    def dump(self, state: dict[str, Any]) -> Snapshot:
        return Snapshot({"sums": state["sums"]}, {"seq": state["seq"]})

    def load(self, stream: str, partition: int, snapshot: Snapshot) -> dict[str, Any]:
        return {"stream": stream, "sums": snapshot.arrays["sums"], "seq": snapshot.meta["seq"]}


@dataclass
class Echo:
    """One record for each Vector, with its total doubled."""

    schema: int
    name: str = "echo"
    inputs: tuple[Input, ...] = (Input("features"),)
    outputs: dict[str, OutputTopic] = field(
        default_factory=lambda: {"predictions": OutputTopic("predictions.{stream}", hops=("prediction",))}
    )

    def digest(self, state: int) -> str:
        return "echo"

    def initial(self, stream: str, partition: int) -> int:
        return 0

    def prepare(self, state: int, batch: Batch) -> None:
        return None

    def step(self, state: int, batch: Batch) -> tuple[int, list[Rows]]:
        vectors = batch.values.structs(VECTOR_ROW)
        rows = np.zeros(len(vectors), ECHO_ROW)
        rows["frame"], rows["seq"], rows["twice"] = frame(self.schema), state + np.arange(len(rows)), vectors["total"] * 2
        rows["position"], rows["stream_time"] = vectors["position"], vectors["stream_time"]
        return state + len(rows), [Rows("predictions", state, batch.keys, Blobs.rows(rows), cause=np.arange(len(rows)))]

    def full(self, state: int) -> Collection[str]:
        return ()

    def dump(self, state: int) -> Snapshot:
        return Snapshot({}, {"seq": state})

    def load(self, stream: str, partition: int, snapshot: Snapshot) -> int:
        return int(snapshot.meta["seq"])


EVERY = 1_000
ENOUGH = 500


@dataclass
class Watch:
    """Pairs features and predictions in order; every thousandth pair is an event in a shared topic."""

    topic: str
    name: str = "watch"
    inputs: tuple[Input, ...] = (Input("features"), Input("predictions"))
    outputs: dict[str, OutputTopic] = field(init=False)

    def __post_init__(self) -> None:
        self.outputs = {"said": OutputTopic(self.topic, tail="scan")}

    def digest(self, state: dict[str, Any]) -> str:
        return "watch"

    def initial(self, stream: str, partition: int) -> dict[str, Any]:
        return {"stream": stream, "features": np.zeros(0), "predictions": np.zeros(0), "paired": 0, "seq": 0}

    def prepare(self, state: dict[str, Any], batch: Batch) -> None:
        return None

    def step(self, state: dict[str, Any], batch: Batch) -> tuple[dict[str, Any], list[Rows]]:
        dtype, column = (VECTOR_ROW, "total") if batch.input == "features" else (ECHO_ROW, "twice")
        came = batch.values.structs(dtype)[column]
        state[batch.input] = np.concatenate([state[batch.input], came])
        pairs = min(len(state["features"]), len(state["predictions"]))
        assert np.array_equal(state["features"][:pairs] * 2, state["predictions"][:pairs])
        state["features"], state["predictions"] = state["features"][pairs:], state["predictions"][pairs:]
        before, state["paired"] = state["paired"] // EVERY, state["paired"] + pairs
        events = [f"{state['stream']}-{number}".encode() for number in range(before, state["paired"] // EVERY)]
        envelopes = heads.of([[("ce_id", event)] for event in events])
        said = Rows("said", state["seq"], Blobs.of([None] * len(events)), Blobs.of(events), envelopes)
        state["seq"] += len(events)
        return state, [said]

    def full(self, state: dict[str, Any]) -> Collection[str]:
        return [name for name in ("features", "predictions") if len(state[name]) > ENOUGH]

    def dump(self, state: dict[str, Any]) -> Snapshot:
        arrays = {name: state[name] for name in ("features", "predictions")}
        return Snapshot(arrays, {name: state[name] for name in ("paired", "seq")})

    def load(self, stream: str, partition: int, snapshot: Snapshot) -> dict[str, Any]:
        return {"stream": stream, **snapshot.arrays, **snapshot.meta}


def fold_of(name: str, settings: Settings, options: dict[str, Any]) -> Any:
    registry = Registry(settings.schema_registry)
    if name == "relay":
        return Relay(registry.register("toy.Vector", VECTOR), **options)
    return Echo(registry.register("toy.Echo", ECHO)) if name == "echo" else Watch(**options)


def log_header(kind: int, seq: int, writer: int, known: int = 0) -> bytes:
    return np.array([(kind, 0, 0, writer, seq, known, known, seq)], LOG_HEADER).tobytes()


def main(name: str, settings: str, options: str) -> None:
    told = Settings(**{**json.loads(settings), "data_dir": Path(json.loads(settings)["data_dir"])})
    given = json.loads(options)
    pace = Pace(**given.pop("pace", {}))
    run(fold_of(name, told, given), told, pace=pace)


if __name__ == "__main__":
    main(*sys.argv[1:])
