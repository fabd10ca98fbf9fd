"""A small stream in which two versions come to serve, one after the other, by signed decisions; and what serving says of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from services.serving.fold import Serving
from services.serving.scorers import Scorers
from tests.unit.feature_store import small
from tests.unit.feature_store.brute import MINUTE, Event
from tests.unit.models.artifacts import tree
from tidemill.bus.fold import Batch, Rows
from tidemill.events import fixed, log_header, wire
from tidemill.events.base import Event as Fact
from tidemill.events.blobs import Blobs
from tidemill.events.features import Failed, Outcome, Unlabelled
from tidemill.events.log import ModelSwitched, Progressed, SpecAdopted
from tidemill.events.monitoring import AlertCleared, AlertRaised, WindowClosed
from tidemill.events.predictions import Prediction
from tidemill.features.vector import vector_schema
from tidemill.spec import Bundle
from tidemill.spec.model import ModelSpec
from tidemill.trust import dsse, keys
from tidemill.trust.statement import Decision, Statement

NAMES = ["event__x", "v__n__1h", "v__m__1h"]
VIEWS: dict[str, Any] = {
    "v": {
        "source": "asks", "entity": "who",
        "features": {"n": {"agg": "count", "over": ["1h"]}, "m": {"agg": "mean", "of": "x", "over": ["1h"]}},
    }
}  # fmt: skip
ALERT = {
    "worse": {"metric": "log_loss", "above": 0.1, "windows": 2, "min_labels": 3},
    "shift": {"metric": "psi", "above": 0.2, "windows": 2},
}
EVENTS, SWITCHES = 600, (150, 400)
WINDOW = 30 * MINUTE
NARROWER = 18
"""The schema of the vectors of `narrower()`."""
CONTROL_IDS = {WindowClosed: 20, AlertRaised: 21, AlertCleared: 22}


@cache
def bundle() -> Bundle:
    return _bundle(VIEWS)


@cache
def narrower() -> Bundle:
    """A later spec, whose vectors have lost a feature that the models read."""
    spec = _bundle({"v": VIEWS["v"] | {"features": {"n": VIEWS["v"]["features"]["n"]}}})
    return spec.model_copy(update={"ids": {**spec.ids, "vector:ask": NARROWER}})


@cache
def quieter() -> Bundle:
    """A later spec without any alert."""
    return _bundle(VIEWS, {})


def _bundle(views: dict[str, Any], alerts: dict[str, Any] = ALERT) -> Bundle:
    spec = small.bundle(views, "2h")
    model = spec.models["m"].model_dump(mode="json", by_alias=True)
    model |= {"rollout": {"shadow": "first"}, "monitors": {"window": "30m", "alerts": alerts}}
    return spec.model_copy(update={"models": {"m": ModelSpec.model_validate(model)}})


@cache
def events(count: int = EVENTS) -> tuple[Event, ...]:
    """Asks and their answers some time later: one each half minute, or so many more or fewer in the same time."""
    rng, found = np.random.default_rng(5), []
    for n in range(1, count + 1):
        at = n * EVENTS * MINUTE // (2 * count)
        about = max(1, n - int(rng.integers(1, 40)))
        source = "asks" if n % 2 else "tells"
        identity = f"q{n}" if source == "asks" else f"q{about - (about + 1) % 2}"
        x = None if rng.random() < 0.1 else float(rng.normal(0, 10) + (n > count // 2) * 8)
        row = {"id": identity, "who": str(rng.choice(["a", "b"])), "x": x, "loud": True, "y": float(rng.normal()), "about": None}
        found.append(Event(n, source, identity, at, at, row))
    return tuple(found)


class Store:
    """Three artifacts by their digests."""

    def __init__(self) -> None:
        rows = np.zeros(500, fixed.dtype_of(vector_schema(bundle(), "ask")))
        rng = np.random.default_rng(1)
        for name in NAMES:
            rows[name] = rng.normal(0, 10, 500)
        self.trees = {f"sha256:{seed:064x}": tree(rows, NAMES, model="m", trigger="small.ask", seed=seed) for seed in (1, 2, 3)}

    def get_tree(self, digest: str) -> dict[str, bytes]:
        return self.trees[digest]


@dataclass(frozen=True)
class Trust:
    """A pinned approver, and what she signs."""

    root: Path

    @classmethod
    def made(cls, root: Path) -> Trust:
        keys.generate("ann", root / "private", root / "pinned" / "g")
        return cls(root)

    @property
    def ring(self) -> keys.KeyRing:
        return keys.KeyRing.load(self.root / "pinned")

    def switch(self, version: int, rollout: int, lie: dict[str, Any] | None = None, action: str = "promote") -> ModelSwitched:
        """A switch and its decision; `lie` is what the decision says otherwise."""
        artifact, report = f"sha256:{version:064x}", "sha256:" + "f" * 64
        decision = Decision(
            **{"stream": "small", "model": "m", "version": version, "report": report, "action": action, "rollout": rollout,
               "effective_at": 0, "approval": f"p{rollout}", "run": f"r{rollout}", "requester": "training", "author": "carol",
               "expires": 2**60, "reason": "fine"} | (lie or {}),
        )  # fmt: skip
        key = keys.load_private(self.root / "private" / "ann.pem")
        envelope = dsse.sign(Statement.of(artifact, decision).text().encode(), key, "ann")
        return ModelSwitched(
            seq=0, position=0, stream_time=0, stream="small", model="m", version=version, artifact=artifact, report=report, rollout=rollout,
            action=action, order=f"o{rollout}", approval=f"p{rollout}", run=f"r{rollout}", effective_at=0, expires=2**60, envelopes=[envelope],
        )  # fmt: skip


def features(turns: dict[int, ModelSwitched | Bundle], ended: bool = True, count: int = EVENTS) -> list[tuple[bytes | None, bytes]]:
    """`features.small`: switches and further specs stand before the event with their number."""
    found = small.records(bundle(), list(events(count)), ended)
    for number, turn in sorted(turns.items(), reverse=True):
        kind, said = (log_header.SPEC_ADOPTED, adopted(turn)) if isinstance(turn, Bundle) else (log_header.MODEL_SWITCHED, turn)
        value = wire.frame(small.IDS[said.full_name()], wire.datum(said))
        found.insert(number, (kind, 255, events(count)[number - 1].known, None, value))
    return small.fold(found, itertools.repeat(100))


def adopted(spec: Bundle) -> SpecAdopted:
    return SpecAdopted(seq=0, position=0, stream_time=0, stream="small", digest=spec.digest, content=spec.to_json())


def batches(topic: str, records: list[tuple[bytes | None, bytes]], sizes: Iterator[int]) -> Iterator[Batch]:
    """A topic behind the log in batches."""
    begin = 0
    while begin < len(records):
        part = records[begin : begin + next(sizes)]
        places = np.arange(begin, begin + len(part))
        keys, values = Blobs.of([k for k, _ in part]), Blobs.of([v for _, v in part])
        yield Batch(topic, "small", 0, places, places * 0, keys, values, {}, places)
        begin += len(part)


class Schemas:
    """The registry's part."""

    def schema(self, schema_id: int) -> dict[str, Any]:
        if schema_id == NARROWER:
            return vector_schema(narrower(), "ask")
        name = small.NAMES[schema_id]
        kinds: tuple[type[Fact], ...] = (Outcome, Unlabelled, Failed, SpecAdopted, Progressed, ModelSwitched, Prediction)
        return vector_schema(bundle(), "ask") if name == "vector:ask" else next(k.SCHEMA for k in kinds if k.full_name() == name)

    def id_of(self, event_type: type[Fact]) -> int:
        return CONTROL_IDS[event_type]  # type: ignore[index]


def serve(
    records: list[tuple[bytes | None, bytes]], trust: Trust, sizes: Iterator[int], reload: bool = False
) -> dict[str, list[Rows]]:
    """What serving says, by output."""
    fold = Serving(Schemas(), Scorers(Store()), trust.ring, "code")
    state = fold.initial("small", 0)
    out: dict[str, list[Rows]] = {"predictions": [], "shadows": []}
    for batch in batches("features", records, sizes):
        fold.prepare(state, batch)
        state, rows = fold.step(state, batch)
        for part in rows:
            out[part.output].append(part)
        if reload:
            state = fold.load("small", 0, fold.dump(state))
    return out


def pairs(rows: list[Rows]) -> list[tuple[bytes | None, bytes]]:
    """(key, value) of rows."""
    return [pair for part in rows for pair in zip(part.keys.tolist(), part.values, strict=True)]
