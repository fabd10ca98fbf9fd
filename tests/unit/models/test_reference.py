"""What drift is measured against."""

from __future__ import annotations

import bisect
from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.unit.models.artifacts import NAMES
from tidemill.errors import Rejected
from tidemill.models import artifact
from tidemill.models.reference import CATEGORIES, Reference, Spread, importance_order

numbers = hnp.arrays(np.float64, st.integers(1, 60), elements=st.sampled_from([0.0, 1.0, 2.5, np.nan]) | st.floats(-1e6, 1e6))


@given(numbers, numbers)
def test_each_number_is_in_the_bin_that_a_search_by_hand_finds(
    training: npt.NDArray[np.float64], live: npt.NDArray[np.float64]
) -> None:
    spread = Spread.of("x", training)
    assert spread.edges is not None
    by_hand = Counter(bisect.bisect_right(spread.edges.tolist(), value) for value in live.tolist() if value == value)
    assert spread.count(live).tolist() == [by_hand[i] for i in range(len(spread.edges) + 1)]


@given(numbers)
def test_training_itself_has_its_shares_and_no_drift(training: npt.NDArray[np.float64]) -> None:
    spread = Spread.of("x", training)
    present = np.count_nonzero(~np.isnan(training))
    assert spread.missing == pytest.approx(1 - present / len(training))
    np.testing.assert_allclose(spread.shares * present, spread.count(training), atol=1e-9)
    assert (spread.psi(spread.count(training)) is None) == (present == 0)
    assert (spread.psi(spread.count(training)) or 0.0) == pytest.approx(0, abs=1e-9)


def test_rows_are_spread_evenly_over_the_bins_of_a_number() -> None:
    spread = Spread.of("x", np.random.default_rng(1).normal(size=10_000))
    np.testing.assert_allclose(spread.shares, 0.1, atol=0.002)


def test_a_number_that_is_mostly_nothing_still_shows_when_it_is_something() -> None:
    rain = np.where(np.arange(1000) % 50 == 0, 1.0 + np.arange(1000), 0.0)
    spread = Spread.of("rain", rain)
    assert spread.shares[0] == 0.98
    assert (spread.psi(spread.count(np.full(500, 3.0))) or 0) > 1


def test_a_number_that_was_always_the_same_shows_when_it_changes() -> None:
    spread = Spread.of("x", np.full(100, 4.0))
    for other in (3.0, 5.0):
        assert (spread.psi(spread.count(np.full(500, other))) or 0) > 1
    assert spread.psi(spread.count(np.full(500, 4.0))) == pytest.approx(0, abs=1e-9)


def test_frequent_categories_have_a_bin_each_and_the_rest_share_one() -> None:
    hashes = np.repeat(np.arange(1, 101, dtype=np.uint64), np.arange(100, 0, -1))
    spread = Spread.of("carrier", hashes)
    assert spread.values is not None
    assert spread.values.tolist() == list(range(1, CATEGORIES))
    live = np.array([0, 1, 1, 5, 99, 12345], np.uint64)
    counts = spread.count(live)
    assert (counts[0], counts[4], counts[-1], counts.sum()) == (2, 1, 2, 5)


def test_a_category_never_seen_in_training_is_drift() -> None:
    spread = Spread.of("carrier", np.array([7] * 900 + [8] * 100, np.uint64))
    assert (spread.psi(spread.count(np.full(500, 9, np.uint64))) or 0) > 1


def test_the_file_gives_back_the_reference(rows: npt.NDArray[np.void], files: dict[str, bytes]) -> None:
    reference = Reference.from_json(files[artifact.REFERENCE])
    assert reference.to_json() == files[artifact.REFERENCE]
    assert reference.names == NAMES
    assert reference.rows == len(rows)
    assert reference.importance[0] == "event__dep_delay"
    for spread in reference.spreads:
        assert spread.count(rows[spread.name]).sum() == round((1 - spread.missing) * len(rows))


@pytest.mark.parametrize("data", [b"", b"[]", b'{"rows": 3, "features": [{"name": "a"}], "importance": [], "test": {}}'])
def test_bytes_that_are_no_reference_are_rejected(data: bytes) -> None:
    with pytest.raises(Rejected, match="bad-artifact"):
        Reference.from_json(data)


def test_equal_gains_keep_the_given_order() -> None:
    assert importance_order(["a", "b", "c", "d"], {"c": 2.0, "b": 1.0}) == ["c", "b", "a", "d"]
