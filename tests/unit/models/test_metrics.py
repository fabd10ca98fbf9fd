"""Our metrics against scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as theirs
from sklearn.calibration import calibration_curve

from tidemill.models import metrics

cases = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.7, 0.99, 1.0]) | st.floats(0, 1)), min_size=2
)


def arrays(rows: list[tuple[int, float]]) -> tuple[metrics.F64, metrics.F64]:
    labels, scores = zip(*rows, strict=True)
    return np.array(labels, np.float64), np.array(scores, np.float64)


@given(cases)
def test_log_loss_and_brier_agree(rows: list[tuple[int, float]]) -> None:
    labels, scores = arrays(rows)
    assert metrics.log_loss(labels, scores) == pytest.approx(theirs.log_loss(labels, scores, labels=[0, 1]), rel=1e-9, abs=1e-12)
    assert metrics.brier(labels, scores) == pytest.approx(theirs.brier_score_loss(labels, scores, pos_label=1), abs=1e-12)


@given(cases)
def test_auc_agrees_with_ties(rows: list[tuple[int, float]]) -> None:
    labels, scores = arrays(rows)
    if len(set(labels)) == 1:
        assert metrics.auc(labels, scores) is None
    else:
        assert metrics.auc(labels, scores) == pytest.approx(theirs.roc_auc_score(labels, scores), abs=1e-12)


def test_calibration_error_is_the_curve_s_mean_gap() -> None:
    rng = np.random.default_rng(5)
    scores = rng.random(5000)
    labels = (rng.random(5000) < scores**1.5).astype(np.float64)
    true, said = calibration_curve(labels, scores, n_bins=metrics.BINS)
    sizes = np.bincount((scores * 10).astype(int), minlength=10) / 5000
    assert metrics.calibration_error(labels, scores) == pytest.approx(float(np.sum(sizes * np.abs(true - said))), rel=1e-9)


def test_a_single_class_has_no_auc_and_no_row_has_no_figure() -> None:
    assert set(metrics.evaluate(np.ones(3), np.full(3, 0.5))) == {"log_loss", "brier", "calibration_error"}
    assert metrics.evaluate(np.zeros(0), np.zeros(0)) == {}


def test_psi_is_nothing_for_the_same_shares_and_grows_with_the_shift() -> None:
    expected = np.full(10, 0.1)
    assert metrics.psi(expected, np.full(10, 500)) == pytest.approx(0, abs=1e-12)
    slight = metrics.psi(expected, np.array([600, 400] + [500] * 8))
    strong = metrics.psi(expected, np.array([4600, 0] + [50] * 8))
    assert 0 < slight < 0.01 < 1 < strong


def test_psi_follows_its_formula() -> None:
    expected, counts = [0.2, 0.3, 0.5], [30, 30, 140]
    total = 200 + 1.5
    by_hand = 0.0
    for share, count in zip(expected, counts, strict=True):
        actual, wanted = (count + 0.5) / total, (200 * share + 0.5) / total
        by_hand += (actual - wanted) * math.log(actual / wanted)
    assert metrics.psi(expected, np.array(counts)) == pytest.approx(by_hand, rel=1e-12)
