"""The feature store as the loop sees it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

import numpy as np

from services.feature_store.model import State
from services.feature_store.rows import HOPS, OUTPUT
from services.feature_store.step import step
from tidemill.bus.fold import Batch, Input, OutputTopic, Rows, Snapshot
from tidemill.code import mark
from tidemill.errors import Rejected
from tidemill.events import log_header
from tidemill.events.columnar import BadSchema, Decoder
from tidemill.features.labels import Join
from tidemill.features.plan import compile_text
from tidemill.features.tables import Table


class Schemas(Protocol):
    """The schemas that raw records were written by."""

    def schema(self, schema_id: int) -> dict[str, Any]: ...


class FeatureStore:
    """`bus.fold.Fold` over the log."""

    name = "feature-store"
    inputs: tuple[Input, ...] = (Input("log", log=True),)
    outputs: Mapping[str, OutputTopic] = {OUTPUT: OutputTopic("features.{stream}", hops=HOPS)}

    def __init__(self, schemas: Schemas, code: str) -> None:
        """`code` is the digest of the fold's code."""
        self._schemas, self._code = schemas, code
        self._decoders: dict[int, Decoder] = {}
        self._unreadable: set[int] = set()

    def digest(self, state: State) -> str:
        """Code and spec."""
        return self._code if state.plan is None else f"{self._code}/{state.plan.bundle.digest}"

    def initial(self, stream: str, partition: int) -> State:
        """Nothing known yet."""
        return State(stream, mark(self._code))

    def prepare(self, state: State, batch: Batch) -> None:
        """Look up the schemas that the batch's events name and that are not known here yet."""
        assert batch.log is not None
        ids = batch.schema_ids[batch.log["kind"] == log_header.EVENT]
        for schema_id in np.unique(ids).tolist():
            if schema_id not in self._decoders and schema_id not in self._unreadable:
                self._learn(schema_id)

    def step(self, state: State, batch: Batch) -> tuple[State, list[Rows]]:
        """See `step`."""
        return step(state, batch, self._decoders)

    def full(self, state: State) -> Collection[str]:
        """Never: it has one input."""
        return ()

    def dump(self, state: State) -> Snapshot:
        """The state as arrays, and what is needed to make sense of them."""
        parts = {f"table{n}": table.arrays() for n, table in enumerate(state.tables)} | {
            f"join{n}": join.arrays() for n, join in enumerate(state.joins)
        }
        arrays = {f"{part}.{name}": array for part, found in parts.items() for name, array in found.items()}
        rooms = {"tables": [table.room for table in state.tables], "joins": [len(join.ring) for join in state.joins]}
        return Snapshot(arrays, {"seq": state.seq, "content": state.content, "rooms": rooms})

    def load(self, stream: str, partition: int, snapshot: Snapshot) -> State:
        """The state of `dump`."""
        meta, state = snapshot.meta, State(stream, mark(self._code), snapshot.meta["seq"])
        if not meta["content"]:
            return state
        plan = compile_text(meta["content"])
        state.plan, state.content = plan, meta["content"]
        state.tables = [
            Table.restore(one, _part(snapshot, f"table{n}"), room)
            for n, (one, room) in enumerate(zip(plan.tables, meta["rooms"]["tables"], strict=True))
        ]
        state.joins = [
            Join.restore(one, _part(snapshot, f"join{n}"), room)
            for n, (one, room) in enumerate(zip(plan.labels, meta["rooms"]["joins"], strict=True))
        ]
        return state

    def _learn(self, schema_id: int) -> None:
        try:
            self._decoders[schema_id] = Decoder(self._schemas.schema(schema_id))
        except (Rejected, BadSchema):
            self._unreadable.add(schema_id)


def _part(snapshot: Snapshot, name: str) -> dict[str, Any]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): array for key, array in snapshot.arrays.items() if key.startswith(prefix)}
