"""Serving as the loop sees it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import numpy as np

from services.serving.model import State
from services.serving.scorers import Scorers
from services.serving.step import PREDICTIONS, SHADOWS, step, turned, turning
from tidemill.bus.fold import Batch, Input, OutputTopic, Rows, Snapshot
from tidemill.bus.metrics import SWITCHES_IGNORED
from tidemill.errors import Refused, Rejected
from tidemill.models.kinds import Kind
from tidemill.models.rollout import Roster
from tidemill.models.scorer import Scorer
from tidemill.trust.keys import KeyRing

logger = logging.getLogger(__name__)


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
        ids = batch.schema_ids
        for number in np.unique(ids).tolist():
            if number >= 0 and number not in self._kinds:
                self._kinds[number] = Kind.of(self._schemas.schema(number))
        roster, names, ignored = state.roster, turning(ids, self._kinds), list[tuple[int, Refused]]()
        scorers = self._load(roster)
        for at in np.flatnonzero(np.isin(ids, list(names))).tolist():
            try:
                roster = turned(roster, names[int(ids[at])], batch, at, self._ring)
            except Refused as error:
                ignored.append((at, error))
                continue
            scorers |= self._load(roster)
        state.scorers = scorers
        for at, why in ignored:  # only now: had anything been away until here, the same batch would come again
            _tell_ignored(batch, at, why)

    def step(self, state: State, batch: Batch) -> tuple[State, list[Rows]]:
        """See `step`."""
        return step(state, batch, self._kinds, self._ring)

    def full(self, state: State) -> Collection[str]:
        """Never: it has one input."""
        return ()

    def dump(self, state: State) -> Snapshot:
        """The roster and the numbers."""
        return Snapshot({}, {"roster": state.roster.to_json(), "seqs": state.seqs})

    def load(self, stream: str, partition: int, snapshot: Snapshot) -> State:
        """The state of `dump`."""
        return State(Roster.from_json(snapshot.meta["roster"]), dict(snapshot.meta["seqs"]))

    def _load(self, roster: Roster) -> dict[str, Scorer]:
        try:
            return {artifact: self._scorers.load(artifact) for artifact in roster.artifacts()}
        except Rejected as error:  # approved, but damaged: nothing may be served by it, and nothing be skipped
            raise RuntimeError(f"a version of {roster.stream} that is to serve cannot be loaded: {error}") from error


def _tell_ignored(batch: Batch, at: int, why: Refused) -> None:
    """Say, for people, that a switch does not hold; the step passes over it."""
    SWITCHES_IGNORED.labels(batch.stream, why.reason).inc()
    place = {"stream": batch.stream, "partition": batch.partition, "offset": int(batch.offsets[at])}
    logger.error("switch ignored", extra=place | {"reason": why.reason, "why": why.message})
