"""One run, from its request to its artifact in the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.training.errors import RunFailed
from services.training.fit import baseline, report, trees
from services.training.fit.code import code_digest
from services.training.fit.dataset import Dataset, build
from services.training.fit.files import Facts, describe
from services.training.fit.past import Past, read
from services.training.fit.split import Split, split
from tidemill.events.schema_registry import Registry
from tidemill.events.training import DatasetBuilt, PartitionEnd, RunCompleted, RunRequested
from tidemill.models.artifact import ENCODING, MODEL, REFERENCE, REPORT
from tidemill.models.encode import Encoding, canonical
from tidemill.models.reference import Reference, importance_order
from tidemill.models.rollout import Roster
from tidemill.models.scorer import Scorer
from tidemill.settings import Settings
from tidemill.spec import Bundle
from tidemill.spec.model import ModelSpec
from tidemill.store import Store

F64 = npt.NDArray[np.float64]

LEAST_ROWS = 100
"""Fewer training rows would give a model that nobody should be asked about."""
LEAST_TESTED, LEAST_OF_A_CLASS = 100, 10
"""Of fewer test rows, in all or of one class, the figures are chance: a gate would pass or fail by luck."""


@dataclass(frozen=True)
class Evaluation:
    """The figures of one run, on the test rows."""

    metrics: dict[str, float]
    baseline: dict[str, float]
    champion: dict[str, float]
    champion_version: int | None
    report: dict[str, Any]


def execute(
    request: RunRequested, ends: Sequence[PartitionEnd], settings: Settings, tell: Callable[[DatasetBuilt], None]
) -> RunCompleted:
    """Do a run that reads other partitions up to `ends`; `tell` hears of the dataset as soon as it is in the store.

    Raises RunFailed, Transient.
    """
    past, roster = read(settings, Registry(settings.schema_registry), request, ends)
    return fit(request, past, roster, Store(settings.store_url), tell)


def fit(
    request: RunRequested, past: Sequence[Past], roster: Roster, store: Store, tell: Callable[[DatasetBuilt], None]
) -> RunCompleted:
    """As `execute`, of what has been read."""
    bundle = _bundle(request, roster)
    model = bundle.models[request.model]
    seat = roster.of(request.model).champion
    champion = Scorer.load(store.get_tree(seat.artifact)) if seat else None
    dataset = build(past, bundle, request, champion.encoding.names if champion else ())
    digest = store.put(dataset.to_parquet())
    tell(_built(request, dataset, digest, bundle))
    parts = _split(dataset, model)
    known = dataset.take(parts.train)
    encoding = Encoding.fit(known, list(known), model=model.model, trigger=model.trigger, threshold=model.threshold)
    fitted, plain = _candidates(dataset, parts, encoding, model)
    files = {MODEL: fitted.bytes(), ENCODING: encoding.to_json()}
    scores = {"candidate": _scores(Scorer.load(files), dataset, parts), "baseline": plain}
    if champion:
        scores["champion"] = _scores(champion, dataset, parts)
    figures = _evaluate(dataset, parts, scores, seat.version if seat else None)
    importance = _importance(fitted, encoding)
    files[REPORT] = canonical(figures.report | {"importance": importance, "trials": [_trial(trial) for trial in fitted.trials]})
    names = list(importance)
    files[REFERENCE] = Reference.of(known, encoding.names, names, figures.metrics).to_json()
    parameters, rounds = fitted.trial.parameters, fitted.trial.rounds
    facts = Facts(
        request, bundle, dataset, digest, encoding, parameters, rounds,
        figures.metrics, figures.baseline, figures.champion, figures.champion_version, names,
        {one.partition: one.records for one in past if one.partition != request.partition},
    )  # fmt: skip
    files |= describe(facts)
    return _completed(facts, store.put_tree(files), store.put(files[REPORT]))


def _bundle(request: RunRequested, roster: Roster) -> Bundle:
    if roster.bundle is None or request.model not in roster.bundle.models:
        raise RunFailed("no-spec", f"the log has adopted no spec with {request.model} before position {request.position}")
    return roster.bundle


def _split(dataset: Dataset, model: ModelSpec) -> Split:
    parts = split(dataset.times, model.training.split.test, model.training.split.gap)
    train, test = dataset.labels[parts.train], dataset.labels[parts.test]
    if len(train) < LEAST_ROWS:
        raise RunFailed(
            "too-few-rows", f"{len(train)} of {len(dataset)} rows are left to train on; at least {LEAST_ROWS} are needed"
        )
    if not trees.both_classes(train) or not trees.both_classes(test):
        raise RunFailed("one-class", "the training rows or the test rows are all of one class")
    positives = np.count_nonzero(test)
    if len(test) < LEAST_TESTED or min(positives, len(test) - positives) < LEAST_OF_A_CLASS:
        raise RunFailed(
            "too-few-rows",
            f"{positives} of {len(test)} test rows are positive; at least {LEAST_TESTED} rows are needed, {LEAST_OF_A_CLASS} of each class",
        )
    return parts


def _candidates(dataset: Dataset, parts: Split, encoding: Encoding, model: ModelSpec) -> tuple[trees.Fitted, F64]:
    """The fitted trees, and the baseline's scores of the test rows; side by side."""
    matrix, labels = encoding.matrix(dataset.take(parts.train)), dataset.labels[parts.train]
    asked, types, training = encoding.matrix(dataset.take(parts.test)), encoding.feature_types, model.training
    with ThreadPoolExecutor(1) as pool:
        plain = pool.submit(baseline.predict, matrix, labels, types, asked)
        spec = training.candidates.xgboost
        fitted = trees.fit(matrix, labels, dataset.times[parts.train], types, spec, training.split.gap, training.seed)
        return fitted, plain.result()


def _scores(scorer: Scorer, dataset: Dataset, parts: Split) -> F64:
    """A scorer's answers for the test rows; a feature that the vectors do not have (any more) is missing, as in serving."""
    return scorer.score(dataset.take_all(parts.test))[0]


def _evaluate(dataset: Dataset, parts: Split, scores: dict[str, F64], champion_version: int | None) -> Evaluation:
    labels, times, asked = dataset.labels[parts.test], dataset.times[parts.test], dataset.take(parts.test)
    found = {name: report.figures(labels, said) for name, said in scores.items()}
    categories = [(name, column) for name, column in asked.items() if column.dtype == np.uint64]
    told = {
        "figures": found,
        "champion_version": champion_version,
        "test": {"from": int(times[0]), "to": int(times[-1])},
        "months": report.by_month(times, labels, scores),
        "slices": [row for name, column in categories for row in report.by_value(name, column.astype(np.uint64), labels, scores)],
        "calibration": report.calibration(labels, scores["candidate"]),
    }
    return Evaluation(found["candidate"], found["baseline"], found.get("champion", {}), champion_version, told)


def _importance(fitted: trees.Fitted, encoding: Encoding) -> dict[str, float]:
    """Each feature's share of the total gain, the greatest first."""
    gains = fitted.booster.get_score(importance_type="total_gain")
    found = {name: float(np.sum(gains.get(f"f{place}", 0.0))) for place, name in enumerate(encoding.names)}
    total = sum(found.values()) or 1.0
    return {name: found[name] / total for name in importance_order(encoding.names, found)}


def _trial(trial: trees.Trial) -> dict[str, Any]:
    return {"parameters": trial.parameters, "rounds": trial.rounds, "log_loss": trial.log_loss}


def _built(request: RunRequested, dataset: Dataset, digest: str, bundle: Bundle) -> DatasetBuilt:
    return DatasetBuilt(
        run=request.run,
        stream=request.stream,
        model=request.model,
        dataset=digest,
        rows=len(dataset),
        positives=dataset.positives,
        unlabelled=dict(Counter(dataset.left_out)),
        from_position=dataset.from_position,
        to_position=request.position,
        first_time=int(dataset.times[0]),
        last_time=int(dataset.times[-1]),
        spec_digest=bundle.digest,
    )


def _completed(facts: Facts, artifact: str, told: str) -> RunCompleted:
    request = facts.request
    return RunCompleted(
        run=request.run,
        stream=request.stream,
        model=request.model,
        cause_kind=request.cause_kind,
        cause_id=request.cause_id,
        requester=request.requester,
        artifact=artifact,
        report=told,
        dataset=facts.dataset_digest,
        code_digest=code_digest(),
        spec_digest=facts.bundle.digest,
        seed=facts.bundle.models[request.model].training.seed,
        parameters={name: str(value) for name, value in facts.parameters.items()} | {"trees": str(facts.rounds)},
        rows=len(facts.dataset),
        from_position=facts.dataset.from_position,
        to_position=request.position,
        metrics=facts.metrics,
        baseline=facts.baseline,
        champion=facts.champion,
        champion_version=facts.champion_version,
        effective_at=request.effective_at,
        seconds=0.0,
    )
