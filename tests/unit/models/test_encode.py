"""From vectors to the matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.unit.models.artifacts import NAMES
from tidemill.errors import Rejected
from tidemill.models.encode import Encoding


def fitted(rows: Any) -> Encoding:
    return Encoding.fit(rows, NAMES, model="late", trigger="flights.departure", threshold=0.5)


def test_numbers_stay_and_categories_become_codes(rows: npt.NDArray[np.void]) -> None:
    matrix = fitted(rows).matrix(rows)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix[:, 0], rows["event__dep_delay"].astype(np.float32))
    by_hand = {0: np.nan, 7: 0, 11: 1, 2**63 + 5: 2}
    np.testing.assert_array_equal(matrix[:, 1], np.array([by_hand[int(h)] for h in rows["event__carrier"]], np.float32))


def test_a_category_that_training_has_not_seen_is_missing(rows: npt.NDArray[np.void]) -> None:
    strange = rows[:3].copy()
    strange["event__carrier"] = [1, 12, 2**64 - 1]
    assert np.isnan(fitted(rows).matrix(strange)[:, 1]).all()


def test_columns_that_training_has_never_seen_filled_are_missing(rows: npt.NDArray[np.void]) -> None:
    empty = rows.copy()
    empty["event__carrier"] = 0
    assert np.isnan(fitted(empty).matrix(rows)[:, 1]).all()


def test_numbers_too_large_for_a_float_stay_finite(rows: npt.NDArray[np.void]) -> None:
    large = rows[:2].copy()
    large["event__dep_delay"] = [np.inf, -1e300]
    assert np.isfinite(fitted(rows).matrix(large)[:, 0]).all()


def test_a_mapping_of_columns_gives_the_same_matrix(rows: npt.NDArray[np.void], columns: dict[str, npt.NDArray[Any]]) -> None:
    assert fitted(rows).to_json() == fitted(columns).to_json()
    assert fitted(rows).matrix(columns).tobytes() == fitted(rows).matrix(rows).tobytes()


def test_the_file_gives_back_the_encoding(rows: npt.NDArray[np.void]) -> None:
    encoding = fitted(rows)
    again = Encoding.from_json(encoding.to_json())
    assert again.to_json() == encoding.to_json()
    assert again.matrix(rows).tobytes() == encoding.matrix(rows).tobytes()
    assert again.feature_types == ["q", "c", "q", "q"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"model":"m","trigger":"t","threshold":0.5,"features":[]}',
        b'{"model":"m","trigger":"t","threshold":0.5,"features":[{"name":"a","kind":"category","codes":["02","01"]}]}',
    ],
)
def test_bytes_that_are_no_encoding_are_rejected(data: bytes) -> None:
    with pytest.raises(Rejected, match="bad-artifact"):
        Encoding.from_json(data)
