"""What is folded before the first real event: one of everything, so that nothing is left to be loaded."""

from __future__ import annotations

import itertools

import numpy as np

from services.feature_store.fold import FeatureStore
from services.feature_store.rehearsal import IDS, Schemas, bundle, events, rehearse
from tests.unit.feature_store import small
from tests.unit.feature_store.brute import HOUR, Event
from tidemill.events import walk, wire
from tidemill.events.gather import gather
from tidemill.events.hashing import hash_slices
from tidemill.features import kernels, labels


def test_the_rehearsal_makes_vectors_and_an_outcome_and_ends() -> None:
    spec, store = bundle(), FeatureStore(Schemas(), small.CODE)
    state, batch = store.initial("rehearsal", 0), events(spec)
    store.prepare(state, batch)
    _, rows = store.step(state, batch)
    said = [wire.schema_id(value) for part in rows for value in part.values]
    names = {number: name for name, number in IDS.items()}
    counts = dict(zip(*np.unique([names[number] for number in said], return_counts=True), strict=True))
    assert counts["vector:ask"] == 2
    assert counts["tidemill.features.Outcome"] == 2
    assert "tidemill.features.Failed" not in counts


def test_after_it_every_kernel_is_compiled() -> None:
    rehearse()
    for kernel in (kernels.fold, kernels.index, labels.join):
        assert kernel.signatures


def test_after_it_no_kernel_is_compiled_anew() -> None:
    """Neither for bytes that cannot be decoded nor for expressions, whatever arrays they come in."""
    rehearse()
    kinds = [kernels.fold, kernels.index, labels.join, walk._walk, hash_slices, gather]
    compiled = [len(kernel.signatures) for kernel in kinds]
    view = {
        "source": "asks",
        "entity": "who",
        "where": "x * 2 > 1 AND who <> 'b'",
        "features": {"m": {"agg": "mean", "of": "x", "over": ["1h", "7d"]}},
    }
    spec = small.bundle({"v": view})
    row = {"who": "a", "x": 1.0, "loud": True, "y": 1.0, "about": None}
    log = [Event(n, "asks" if n % 2 else "tells", f"q{n}", n * HOUR, n * HOUR, row | {"id": f"q{n}"}) for n in range(1, 100)]
    found = small.records(spec, log, ended=True)
    found[7] = (*found[7][:4], found[7][4][:-3])
    small.fold(found, itertools.cycle([1, 20]), reload=True)
    assert [len(kernel.signatures) for kernel in kinds] == compiled
