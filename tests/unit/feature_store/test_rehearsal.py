"""What is folded before the first real event: one of everything, so that nothing is left to be loaded."""

from __future__ import annotations

import numpy as np

from services.feature_store.fold import FeatureStore
from services.feature_store.rehearsal import IDS, Schemas, bundle, events, rehearse
from tests.unit.feature_store import small
from tidemill.events import wire
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
