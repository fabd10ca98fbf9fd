"""Departures that never were, with labels that follow from them: what a fold would have written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from services.training.fit.past import Past
from tidemill.code import mark
from tidemill.events import features, fixed
from tidemill.events.identity import hash64
from tidemill.events.training import RunRequested
from tidemill.features.vector import vector_schema
from tidemill.models.rollout import Roster
from tidemill.spec import load
from tidemill.store import Store

BUNDLE = load(Path(__file__).parents[3] / "usecases" / "flights")
MODEL = "late-arrival"
BEGIN = 1_356_998_400_000_000
DAY = 86_400_000_000
PER_DAY = 400
CODE = "sha256:" + "c0de" * 16


def past(number: int, seed: int = 0) -> Past:
    """`number` triggers, 400 a day from 2013 on, at every second position; an outcome follows each, but for one in 50."""
    chance = np.random.default_rng(seed)
    vectors = np.zeros(number, fixed.dtype_of(vector_schema(BUNDLE, "departure")))
    vectors["position"] = vectors["seq"] = np.arange(number) * 2
    vectors["frame"] = b"\0\0\0\0\1"
    times = BEGIN + np.arange(number) * (DAY // PER_DAY)
    for name in ("event_time", "stream_time", "known_time"):
        vectors[name] = times
    vectors["id_hash"] = chance.integers(1, 2**63, number)
    vectors["spec"], vectors["code"] = BUNDLE.mark, mark(CODE)
    for name in vectors.dtype.names or ():
        if "__" in name:
            vectors[name] = _column(vectors.dtype[name], name, number, chance)
    odds = 2 * np.nan_to_num(vectors["event__dep_delay"]) + np.nan_to_num(vectors["weather_now__wind__3h"]) ** 2 - 1.5
    labels = (chance.random(number) < 1 / (1 + np.exp(-odds))).astype(np.float64)
    return Past(0, [vectors], _outcomes(vectors, labels), _unlabelled(vectors), 2 * number)


def request(number: int, **over: Any) -> RunRequested:
    """A run over `past(number)`, whose cause stands a moment after the last of them."""
    at_time = BEGIN + number * (DAY // PER_DAY)
    values = {
        "run": "6f1d5f6a-52b5-5c59-9d8c-5f1b0f0e7a11",
        "stream": "flights",
        "model": MODEL,
        "cause_kind": "schedule",
        "cause_id": "every",
        "cause_detail": "every 30d",
        "partition": 0,
        "position": 2 * number,
        "at_time": at_time,
        "effective_at": at_time + DAY // 4,
        "requester": "training",
        "spec_digest": BUNDLE.digest,
    }
    return RunRequested.model_validate(values | over)


def roster() -> Roster:
    """The flights' spec is adopted; nobody serves."""
    return Roster("flights", BUNDLE.to_json())


def _column(kind: np.dtype[Any], name: str, number: int, chance: np.random.Generator) -> np.ndarray[Any, Any]:
    if kind == np.dtype("<u8"):
        return np.array([hash64(f"{name} {value}".encode()) for value in range(12)], np.uint64)[chance.integers(0, 12, number)]
    column = chance.normal(size=number)
    column[chance.random(number) < 0.05] = np.nan
    return column


def _outcomes(vectors: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    rows = np.zeros(len(vectors), fixed.dtype_of(features.Outcome.SCHEMA))
    rows["frame"] = b"\0\0\0\0\2"
    rows["seq"] = rows["position"] = vectors["position"] + 1
    rows["trigger_position"], rows["trigger_time"], rows["stream_time"] = (
        vectors["position"],
        vectors["event_time"],
        vectors["stream_time"],
    )
    rows["model"], rows["label"], rows["id_hash"] = hash64(MODEL.encode()), labels, vectors["id_hash"]
    return rows[np.arange(len(rows)) % 50 != 7]


def _unlabelled(vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    missing = vectors[np.arange(len(vectors)) % 50 == 7]
    rows = np.zeros(len(missing), fixed.dtype_of(features.Unlabelled.SCHEMA))
    rows["frame"] = b"\0\0\0\0\3"
    rows["seq"] = rows["position"] = missing["position"] + 1
    rows["trigger_position"], rows["trigger_time"], rows["stream_time"] = (
        missing["position"],
        missing["event_time"],
        missing["stream_time"],
    )
    rows["model"] = hash64(MODEL.encode())
    return rows


if __name__ == "__main__":
    from services.training.fit.run import fit

    rows = int(sys.argv[1])
    print(fit(request(rows), [past(rows)], roster(), Store("memory://fit"), lambda built: None).artifact)  # noqa: T201
