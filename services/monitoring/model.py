"""The state of the fold: what has arrived and waits, and per model the open window, the open scores, the alerts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.monitoring.drift import Drift
from tidemill.events.blobs import Blobs
from tidemill.models.reference import Reference
from tidemill.models.rollout import Roster

SCORES: Final = np.dtype([("position", "<f8"), ("version", "<i8"), ("score", "<f8")])
"""Predictions as monitoring needs them; version -1 and score NaN where none was scored."""
WAITING: Final = np.dtype([("position", "<f8"), ("version", "<i8"), ("score", "<f8"), ("shadow", "<f8")])
"""Scores that wait for their trigger's label, by rising position; `version` is the champion that scored."""
LABELLED: Final = np.dtype([("label", "<f8"), ("version", "<i8"), ("score", "<f8"), ("shadow", "<f8")])
"""Scores that have met their label."""
Structs = npt.NDArray[np.void]
"""Rows of one of these dtypes, or of feature records."""


@dataclass
class Alert:
    """One alert of a model: how many windows in a row were bad, and the id under which it is up."""

    streak: int = 0
    up: str = ""


@dataclass
class Watch:
    """One model. The open window's figures are kept as parts and put together when it closes."""

    begin: int | None = None
    """The open window's begin, us; None before the first record."""
    end: int = 0
    """The open window's end: where a window of the spec's length ends, counted from the epoch."""
    predictions: int = 0
    scored: int = 0
    unlabelled: int = 0
    outcomes_total: int = 0
    scores: Structs = field(default_factory=lambda: np.zeros(0, SCORES))
    """Of this window's scored triggers."""
    labelled: Structs = field(default_factory=lambda: np.zeros(0, LABELLED))
    """Labels that came in this window, of triggers that this or an earlier champion scored."""
    outcomes: int = 0
    waiting: Structs = field(default_factory=lambda: np.zeros(0, WAITING))
    drift: Drift = field(default_factory=Drift)
    champion: str = ""
    """The artifact against whose reference drift is counted."""
    version: int | None = None
    alerts: dict[str, Alert] = field(default_factory=dict)
    heard: Structs = field(default_factory=lambda: np.zeros(0, SCORES))
    """Predictions whose vectors have not been folded yet."""
    shadowed: Structs = field(default_factory=lambda: np.zeros(0, SCORES))
    """Shadow predictions likewise."""

    def open(self, begin: int, window: int) -> None:
        """Begin a window, which ends where the next one of this length (us) begins."""
        self.begin, self.end = begin, (begin // window + 1) * window

    def alert(self, name: str) -> Alert:
        """The state of an alert."""
        return self.alerts.setdefault(name, Alert())


@dataclass
class State:
    """One shard."""

    stream: str
    partition: int
    roster: Roster
    watches: dict[str, Watch] = field(default_factory=dict)
    ids: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    values: Blobs = field(default_factory=lambda: Blobs.of([]))
    """Feature records that wait for predictions, with their schema ids."""
    seqs: dict[str, int] = field(default_factory=dict)
    references: dict[str, Reference | None] = field(default_factory=dict)
    """By artifact, those of the champions and of the versions that waiting switches name; None where there is none to be had. They are
    loaded again after a restart.
    """

    def watch(self, model: str) -> Watch:
        """The state of a model."""
        return self.watches.setdefault(model, Watch())

    def to_plain(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """(arrays, meta) of a snapshot."""
        arrays: dict[str, npt.NDArray[Any]] = {"ids": self.ids, **_packed("values", self.values)}
        watches: dict[str, Any] = {}
        for number, (name, watch) in enumerate(self.watches.items()):
            for part in _ARRAYS:
                arrays[f"{number}.{part}"] = getattr(watch, part)
            waiting = watch.drift.waiting
            arrays |= _packed(f"{number}.vectors", Blobs.concat([*waiting.values()]))
            arrays[f"{number}.schemas"] = np.repeat(np.array([*waiting], np.int64), [*map(len, waiting.values())])
            alerts = {key: [alert.streak, alert.up] for key, alert in watch.alerts.items()}
            plain = {part: getattr(watch, part) for part in _NUMBERS}
            watches[name] = plain | {"alerts": alerts, "drift": watch.drift.to_plain()}
        return arrays, {"partition": self.partition, "roster": self.roster.to_json(), "seqs": self.seqs, "watches": watches}

    @classmethod
    def from_plain(cls, stream: str, arrays: dict[str, npt.NDArray[Any]], meta: dict[str, Any]) -> State:
        """The state of `to_plain`."""
        state = cls(stream, meta["partition"], Roster.from_json(meta["roster"]), seqs=dict(meta["seqs"]))
        state.ids, state.values = arrays["ids"], _unpacked("values", arrays)
        for number, (name, plain) in enumerate(meta["watches"].items()):
            watch = Watch()
            for part in _NUMBERS:
                setattr(watch, part, plain[part])
            for part in _ARRAYS:
                setattr(watch, part, arrays[f"{number}.{part}"])
            watch.drift = Drift.from_plain(plain["drift"])
            watch.drift.keep(arrays[f"{number}.schemas"], _unpacked(f"{number}.vectors", arrays))
            watch.alerts = {key: Alert(streak, up) for key, (streak, up) in plain["alerts"].items()}
            state.watches[name] = watch
        return state


_NUMBERS = ("begin", "end", "predictions", "scored", "unlabelled", "outcomes_total", "outcomes", "champion", "version")
_ARRAYS = ("scores", "labelled", "waiting", "heard", "shadowed")


def _packed(name: str, values: Blobs) -> dict[str, npt.NDArray[Any]]:
    return {f"{name}.data": values.packed().data, f"{name}.lengths": values.lengths}


def _unpacked(name: str, arrays: dict[str, npt.NDArray[Any]]) -> Blobs:
    return Blobs.tight(arrays[f"{name}.data"], arrays[f"{name}.lengths"])
