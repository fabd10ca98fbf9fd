"""Small vectors and the artifact of a model of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.unit.models.artifacts import VECTOR, tree


@pytest.fixture(scope="session")
def rows() -> npt.NDArray[np.void]:
    rng = np.random.default_rng(3)
    out = np.zeros(3000, VECTOR)
    out["event__carrier"] = rng.choice(np.array([0, 11, 7, 2**63 + 5], np.uint64), 3000)
    for name in ("event__dep_delay", "origin__delay_mean__24h", "origin__departures__1h"):
        out[name] = np.where(rng.random(3000) < 0.1, np.nan, rng.normal(0, 10, 3000))
    return out


@pytest.fixture(scope="session")
def files(rows: npt.NDArray[np.void]) -> dict[str, bytes]:
    return tree(rows)


@pytest.fixture
def columns(rows: npt.NDArray[np.void]) -> dict[str, npt.NDArray[Any]]:
    return {name: rows[name] for name in rows.dtype.names or ()}
