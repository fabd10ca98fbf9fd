"""Serving as the loop sees it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import numpy as np

from services.serving.model import Kind, State
from services.serving.scorers import Scorers
from services.serving.step import PREDICTIONS, SHADOWS, step, switch_of
from tidemill.bus.fold import Batch, Input, OutputTopic, Rows, Snapshot
from tidemill.errors import Refused, Rejected
from tidemill.events import wire
from tidemill.events.log import ModelSwitched
from tidemill.models.rollout import Roster, decided
from tidemill.trust.keys import KeyRing

log = logging.getLogger(__name__)


class Schemas(Protocol):
    """The schemas of feature records."""

    def schema(self, schema_id: int) -> dict[str, Any]: ...


class Serving:
    """`bus.fold.Fold` over features."""

    name = "serving"
    inputs: tuple[Input, ...] = (Input("features"),)
    outputs: Mapping[str, OutputTopic] = {
        PREDICTIONS: OutputTopic("predictions.{stream}", hops=("prediction",)),
        SHADOWS: OutputTopic("shadow-predictions.{stream}", hops=("shadow",)),
    }

    def __init__(self, schemas: Schemas, scorers: Scorers, ring: KeyRing, code: str) -> None:
        """`ring` are this process's own pinned keys; `code` is the digest of the fold's code."""
        self._schemas, self._scorers, self._ring, self._code = schemas, scorers, ring, code
        self._kinds: dict[int, Kind] = {}

    def digest(self, state: State) -> str:
        """Code and spec."""
        bundle = state.roster.bundle
        return self._code if bundle is None else f"{self._code}/{bundle.digest}"

    def initial(self, stream: str, partition: int) -> State:
        """Nobody serves yet."""
        return State(Roster(stream))

    def prepare(self, state: State, batch: Batch) -> None:
        """Look up the batch's schemas, and load every version that may score in it: digest and decision verified."""
        ids = wire.schema_ids(batch.values)
        for number in np.unique(ids).tolist():
            if number >= 0 and number not in self._kinds:
                self._kinds[number] = Kind.of(self._schemas.schema(number))
        for artifact in state.roster.artifacts():
            self._scorers.load(artifact)
        switches = [number for number, kind in self._kinds.items() if kind.name == ModelSwitched.full_name()]
        for at in np.flatnonzero(np.isin(ids, switches)).tolist():
            self._load_switched(state.roster, switch_of(batch.values[at]))

    def step(self, state: State, batch: Batch) -> tuple[State, list[Rows]]:
        """See `step`."""
        return step(state, batch, self._kinds, self._scorers, self._ring)

    def full(self, state: State) -> Collection[str]:
        """Never: it has one input."""
        return ()

    def dump(self, state: State) -> Snapshot:
        """The roster and the numbers."""
        return Snapshot({}, {"roster": state.roster.to_json(), "seqs": state.seqs})

    def load(self, stream: str, partition: int, snapshot: Snapshot) -> State:
        """The state of `dump`."""
        return State(Roster.from_json(snapshot.meta["roster"]), dict(snapshot.meta["seqs"]))

    def _load_switched(self, roster: Roster, switch: ModelSwitched) -> None:
        """Load what a switch names, if it holds. One that does not is ignored by the step, and said here."""
        said = {"model": switch.model, "version": switch.version, "rollout": switch.rollout}
        model = roster.models.get(switch.model)
        try:
            if model is not None:
                decided(switch, roster.stream, model, self._ring)
            if switch.action != "revoke":
                self._scorers.load(switch.artifact)
        except Refused as error:
            log.error("switch ignored", extra=said | {"reason": error.reason, "why": error.message})
        except Rejected as error:  # an approved artifact that is damaged: nothing may be served by it, and nothing be skipped
            raise RuntimeError(f"version {switch.version} of {switch.model} cannot be loaded: {error}") from error
