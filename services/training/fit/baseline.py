"""The logistic baseline: there to be beaten, never proposed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

FITTED_ON = 60_000
"""The newest training rows; a linear model learns no more from others."""


def predict(matrix: F32, labels: F64, types: Sequence[str], asked: F32) -> F64:
    """Fit on the newest training rows, and the probabilities of `asked`; one thread, so the same bits on any number of cores.

    `types` are `q` (median for missing, scaled, and whether it was missing) or `c` (one-hot, missing is all zeros).
    """
    newest = slice(max(0, len(labels) - FITTED_ON), None)
    with threadpool_limits(1):
        model = _pipeline(types).fit(matrix[newest].astype(np.float64), labels[newest] > 0.5)
        scores: F64 = model.predict_proba(asked.astype(np.float64))[:, 1]
    return scores


def _pipeline(types: Sequence[str]) -> Pipeline:
    numbers = [place for place, kind in enumerate(types) if kind == "q"]
    categories = [place for place, kind in enumerate(types) if kind == "c"]
    numeric = make_pipeline(SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), StandardScaler())
    codes = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer([("numbers", numeric, numbers), ("categories", codes, categories)])
    return make_pipeline(columns, LogisticRegression(C=1.0, max_iter=300, tol=1e-4))
