"""Gradient-boosted trees: trials on the newest training rows, the winner fitted again on all of them.

Every fit uses one thread, and trials run side by side: so the bits do not depend on the number of cores.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from services.training.errors import RunFailed
from services.training.fit.split import split
from tidemill.models.trees import Booster, DMatrix, train
from tidemill.spec.training import Newest, XgboostSpec

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Parameters = dict[str, Any]

TUNED_ON = 40_000
"""Trials see so many of the newest training rows: more of them changed no choice, only the time."""
VALIDATED_ON = Newest.model_validate("newest 25%")
"""Of these, what early stopping looks at."""
GROWTH = 0.2
"""More rows bear more trees: the winner's number grows with this power of the rows that it gained."""

_FIXED: Parameters = {
    "objective": "binary:logistic",
    "eval_metric": "logloss",
    "tree_method": "hist",
    "max_bin": 128,
    "max_cat_to_onehot": 4,
    "nthread": 1,
    "validate_parameters": True,
}
_FIRST: Parameters = {
    "eta": 0.1,
    "max_depth": 6,
    "min_child_weight": 8.0,
    "subsample": 0.8,
    "colsample_bytree": 0.6,
    "lambda": 2.0,
}
"""A sound default goes first; the others are drawn."""
_CHOICES: Parameters = {
    "eta": (0.06, 0.08, 0.1, 0.12),
    "max_depth": (5, 6, 7),
    "min_child_weight": (4.0, 8.0, 16.0),
    "subsample": (0.7, 0.8, 0.9),
    "colsample_bytree": (0.4, 0.5, 0.6, 0.8),
    "lambda": (1.0, 2.0, 4.0),
}
"""Near the default: one validation slice is too noisy to choose between very different models."""


@dataclass(frozen=True)
class Trial:
    """One choice of parameters and what came of it."""

    parameters: Parameters
    rounds: int
    """Trees at the best validation figure."""
    log_loss: float
    """On the validation rows."""


@dataclass(frozen=True)
class Fitted:
    """The winner on all training rows."""

    booster: Booster
    trial: Trial
    trials: list[Trial]

    def bytes(self) -> bytes:
        """The trees as universal binary JSON."""
        return bytes(self.booster.save_raw("ubj"))


def fit(matrix: F32, labels: F64, times: I64, types: Sequence[str], spec: XgboostSpec, gap: int, seed: int) -> Fitted:
    """Trees for rows in the order of time; raises RunFailed where they are too few to validate on.

    `matrix` is float32[n, features] with NaN for missing, `types` xgboost's (`q`, `c`), `gap` us as in the split.
    """
    newest = slice(max(0, len(labels) - TUNED_ON), None)
    parts = split(times[newest], VALIDATED_ON, gap)
    if not both_classes(labels[newest][parts.train]) or not both_classes(labels[newest][parts.test]):
        raise RunFailed("too-few-rows", "the training rows are too few, or of one class, to tune on")
    known, asked = ((matrix[newest][rows], labels[newest][rows]) for rows in (parts.train, parts.test))
    run = partial(_trial, known=known, asked=asked, types=types, spec=spec)
    with ThreadPoolExecutor(min(spec.trials, cores())) as pool:
        trials = list(pool.map(run, candidates(spec.trials, seed)))
    best = min(trials, key=lambda trial: trial.log_loss)
    rounds = min(spec.max_trees, round(best.rounds * (len(labels) / len(parts.train)) ** GROWTH))
    booster = train({**_FIXED, **best.parameters}, _matrix(matrix, labels, types), rounds)
    return Fitted(booster, best, trials)


def candidates(number: int, seed: int) -> list[Parameters]:
    """The parameters of each trial; the same for the same seed."""
    chance = np.random.default_rng(seed)
    drawn = [{name: values[chance.integers(len(values))] for name, values in _CHOICES.items()} for _ in range(number - 1)]
    return [{**parameters, "seed": seed} for parameters in (_FIRST, *drawn)]


def both_classes(labels: F64) -> bool:
    """Whether there is something to tell apart."""
    return 0 < int(np.count_nonzero(labels > 0.5)) < len(labels)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _trial(
    parameters: Parameters, known: tuple[F32, F64], asked: tuple[F32, F64], types: Sequence[str], spec: XgboostSpec
) -> Trial:
    booster = train(
        {**_FIXED, **parameters},
        _matrix(*known, types),
        spec.max_trees,
        evals=[(_matrix(*asked, types), "newest")],
        early_stopping_rounds=spec.early_stopping,
        verbose_eval=False,
    )
    return Trial(parameters, int(booster.best_iteration) + 1, float(booster.best_score))


def _matrix(matrix: F32, labels: F64, types: Sequence[str]) -> DMatrix:
    return DMatrix(matrix, labels, feature_types=list(types), nthread=1)
