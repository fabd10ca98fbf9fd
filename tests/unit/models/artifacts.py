"""Artifacts of small models, made as training makes them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tidemill.models import artifact
from tidemill.models.encode import Encoding
from tidemill.models.reference import Reference, importance_order
from tidemill.models.trees import DMatrix, train

VECTOR = np.dtype(
    [
        ("frame", "V5"),
        ("seq", "<f8"),
        ("event__carrier", "<u8"),
        ("event__dep_delay", "<f8"),
        ("origin__delay_mean__24h", "<f8"),
        ("origin__departures__1h", "<f8"),
    ]
)
NAMES = ["event__dep_delay", "event__carrier", "origin__delay_mean__24h", "origin__departures__1h"]


def tree(
    rows: npt.NDArray[np.void],
    names: list[str] = NAMES,
    *,
    model: str = "late",
    trigger: str = "flights.departure",
    threshold: float = 0.5,
    rounds: int = 12,
    seed: int = 7,
) -> dict[str, bytes]:
    """The files of a model that learnt whether the first feature, or the second's code, is high."""
    encoding = Encoding.fit(rows, names, model=model, trigger=trigger, threshold=threshold)
    matrix = encoding.matrix(rows)
    noise = np.random.default_rng(seed).normal(0, 0.5, len(rows))
    labels = np.nan_to_num(matrix[:, 0]) / 10 + np.nan_to_num(matrix[:, 1]) % 2 + noise > 0.5
    data = DMatrix(
        matrix,
        label=labels.astype(np.float32),
        feature_names=encoding.names,
        feature_types=encoding.feature_types,
        enable_categorical=True,
        nthread=1,
    )
    booster = train({"objective": "binary:logistic", "nthread": 1, "seed": seed, "max_depth": 4}, data, rounds)
    order = importance_order(
        names, {str(name): float(gain) for name, gain in booster.get_score(importance_type="total_gain").items()}
    )
    reference = Reference.of(rows, names, order, {"log_loss": 0.4, "auc": 0.9, "brier": 0.1, "calibration_error": 0.02})
    return {
        artifact.MODEL: bytes(booster.save_raw("ubj")),
        artifact.ENCODING: encoding.to_json(),
        artifact.REFERENCE: reference.to_json(),
        artifact.REPORT: b"{}",
    }
