"""R17: the compiled kernel computes what Python's own IEEE 754 arithmetic does, to the last bit: nothing is reordered or fused."""

from __future__ import annotations

import itertools
from types import FunctionType
from typing import Any

import numpy as np
import pytest

from tests.unit.feature_store import small
from tests.unit.feature_store.brute import MINUTE
from tidemill.features import kernels, labels
from tidemill.features.plan import compile as plan_of
from tidemill.features.tables import Table

AGGS = ("sum", "mean", "min", "max", "last", "std")
VIEW = {
    "source": "asks", "entity": "who", "features": {f"f{n}": {"agg": agg, "of": "x", "over": ["1h", "6h"]} for n, agg in enumerate(AGGS)},
}  # fmt: skip
EVENTS = 1_500


def plain(compiled: Any, *callees: Any) -> Any:
    """The same function without a compiler, calling its callees without one."""
    function = compiled.py_func
    return FunctionType(function.__code__, function.__globals__ | {one.__name__: one for one in callees})


def test_no_bit_differs_from_plain_arithmetic() -> None:
    (plan, *_) = plan_of(small.bundle({"v": VIEW})).tables
    rng = np.random.default_rng(11)
    key = rng.integers(1, 5, EVENTS).astype(np.uint64)
    time = np.cumsum(rng.integers(0, 2 * MINUTE, EVENTS)) - rng.integers(0, 90 * MINUTE, EVENTS) + 10**15
    values = rng.normal(0, 1, (EVENTS, 1)) * 10.0 ** rng.integers(-9, 9, (EVENTS, 1))
    values[rng.random(EVENTS) < 0.1] = np.nan
    told = (0, key, time, time, np.arange(EVENTS), np.ones(EVENTS, bool), values, plan.layout)

    def folded(fold: Any) -> tuple[bytes, ...]:
        out, late = np.full((EVENTS, len(plan.layout.aggs)), np.nan), np.zeros(EVENTS, bool)
        rings = Table.empty(plan, places=plan.layout.span).rings
        assert fold(*told, rings, 0, out, late) == (EVENTS, False)
        assert np.isfinite(out).mean() > 0.5
        assert 0 < late.sum() < EVENTS / 2
        return out.tobytes(), late.tobytes(), rings.stats.tobytes()

    merge = plain(kernels.merge)
    reading = plain(kernels.read, merge, plain(kernels.older, merge, plain(kernels.summed)))
    uncompiled = plain(kernels.fold, plain(kernels.find), plain(kernels.place), plain(kernels.add), reading)
    assert folded(kernels.fold) == folded(uncompiled)


def test_a_ring_that_grows_holds_what_one_does_that_has_all_places() -> None:
    (plan, *_) = plan_of(small.bundle({"v": VIEW})).tables
    rng = np.random.default_rng(7)
    key = rng.integers(1, 5, EVENTS).astype(np.uint64)
    time = np.cumsum(rng.integers(0, 2 * MINUTE, EVENTS)) - rng.integers(0, 90 * MINUTE, EVENTS) + 10**15
    told = key, time, time, np.arange(EVENTS), np.ones(EVENTS, bool), rng.normal(0, 1, (EVENTS, 1))

    def folded(table: Table) -> tuple[bytes, ...]:
        out, late = np.full((EVENTS, len(plan.layout.aggs)), np.nan), np.zeros(EVENTS, bool)
        table.fold(*told, 0, out, late)
        rings, places = table.rings, np.arange(len(table.rings.tiles[0]))
        there = [(row["first"] + places[: row["count"]]) % len(places) for row in rings.entities[: rings.used[0]]]
        tiles = [(rings.tiles[row, at].tobytes(), rings.stats[row, at].tobytes()) for row, at in enumerate(there)]
        return out.tobytes(), late.tobytes(), *itertools.chain(*tiles)

    grown = Table.empty(plan)
    assert folded(grown) == folded(Table.empty(plan, places=plan.layout.span))
    assert len(grown.rings.tiles[0]) > len(Table.empty(plan).rings.tiles[0])


@pytest.mark.parametrize(
    "kernel",
    [
        kernels.fold,
        kernels.add,
        kernels.read,
        kernels.older,
        kernels.summed,
        kernels.merge,
        kernels.place,
        kernels.find,
        labels.join,
    ],
)
def test_no_kernel_is_compiled_with_fast_math(kernel: Any) -> None:
    assert not kernel.targetoptions.get("fastmath")
