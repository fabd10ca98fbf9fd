"""Counting in parts is counting at once, and keeps few vectors."""

from __future__ import annotations

import json

import numpy as np
import pytest

from services.monitoring.drift import ENOUGH, Drift
from tests.unit.serving import scene
from tidemill.events import fixed
from tidemill.events.blobs import Blobs
from tidemill.features.vector import vector_schema
from tidemill.models import artifact
from tidemill.models.kinds import Kind
from tidemill.models.reference import Reference

SCHEMA = vector_schema(scene.bundle(), "ask")
KINDS = {10: Kind.of(SCHEMA)}
COUNT = 2 * ENOUGH + 1_000
REFERENCE = Reference.from_json(scene.Store().get_tree(f"sha256:{1:064x}")[artifact.REFERENCE])


def vectors() -> Blobs:
    rng, rows = np.random.default_rng(3), np.zeros(COUNT, fixed.dtype_of(SCHEMA))
    for name in scene.NAMES:
        rows[name] = np.where(rng.random(COUNT) < 0.2, np.nan, rng.normal(3, 12, COUNT))
    return Blobs.rows(rows)


def ids(count: int) -> np.ndarray:
    return np.full(count, 10, np.int64)


@pytest.mark.parametrize("size", [1, 7, 1000, COUNT])
@pytest.mark.parametrize("reload", [False, True])
def test_parts_add_up_and_few_vectors_wait(size: int, reload: bool) -> None:
    found, all_of_them = Drift(), vectors()
    for begin in range(0, COUNT, size):
        part = all_of_them.chosen(slice(begin, begin + size))
        found.add(ids(len(part)), part, REFERENCE, KINDS)
        assert sum(map(len, found.waiting.values())) < ENOUGH
        if reload and begin % 1000 == 0:
            waiting, found = found.waiting, Drift.from_plain(json.loads(json.dumps(found.to_plain())))
            for number, values in waiting.items():
                found.keep(np.full(len(values), number), values)
    found.count(REFERENCE, KINDS)
    whole = all_of_them.structs(fixed.dtype_of(SCHEMA))
    assert found.rows == COUNT
    assert found.psi(REFERENCE) == {spread.name: spread.psi(spread.count(whole[spread.name])) for spread in REFERENCE.spreads}
    assert found.shares(REFERENCE) == {name: np.isnan(whole[name]).mean() for name in scene.NAMES}


def test_without_a_reference_nothing_is_kept() -> None:
    found = Drift()
    found.add(ids(COUNT), vectors(), None, KINDS)
    assert (found.rows, found.waiting, found.shares(REFERENCE)) == (0, {}, {})
