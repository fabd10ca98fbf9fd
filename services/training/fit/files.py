"""The files of an artifact that describe it: MLmodel, model card, lineage. No clock, no machine."""

from __future__ import annotations

import platform
import uuid
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import yaml

from services.training.fit.code import code_digest
from services.training.fit.dataset import Dataset
from tidemill.events.training import RunRequested
from tidemill.models.artifact import CARD, ENCODING, LINEAGE, MLMODEL, MODEL, REFERENCE, REPORT
from tidemill.models.encode import Encoding, canonical
from tidemill.spec import Bundle
from tidemill.spec.values import format_moment

_LIBRARIES = ("xgboost-cpu", "scikit-learn", "numpy", "polars")


@dataclass(frozen=True)
class Facts:
    """What the describing files tell."""

    request: RunRequested
    bundle: Bundle
    dataset: Dataset
    dataset_digest: str
    encoding: Encoding
    parameters: dict[str, Any]
    rounds: int
    metrics: dict[str, float]
    baseline: dict[str, float]
    champion: dict[str, float]
    champion_version: int | None
    importance: list[str]
    others: dict[int, int]
    """How many records of each other partition than the cause's were read."""


def describe(facts: Facts) -> dict[str, bytes]:
    """The three files."""
    return {
        MLMODEL: _mlmodel(facts),
        CARD: _card(facts).encode(),
        LINEAGE: canonical(_lineage(facts)),
    }


def _mlmodel(facts: Facts) -> bytes:
    """MLflow's own description, https://mlflow.org/docs/latest/ml/model/ : its xgboost flavour loads the trees as they are."""
    inputs = [{"type": "float", "name": name, "required": False} for name in facts.encoding.names]
    request = facts.request
    described = {
        "artifact_path": "model",
        "flavors": {
            "xgboost": {
                "code": None,
                "data": MODEL,
                "model_class": "xgboost.core.Booster",
                "model_format": "ubj",
                "xgb_version": version("xgboost-cpu"),
            }
        },
        "metadata": {"encoding": ENCODING, "lineage": LINEAGE, "reference": REFERENCE, "report": REPORT, "stream": request.stream},
        "model_uuid": uuid.UUID(request.run).hex,
        "run_id": request.run,
        "signature": {
            "inputs": canonical(inputs).decode(),
            "outputs": canonical([{"type": "float", "name": "score", "required": True}]).decode(),
            "params": None,
        },
        "utc_time_created": format_moment(request.at_time),
    }
    return yaml.safe_dump(described, sort_keys=True).encode()


def _lineage(facts: Facts) -> dict[str, Any]:
    request, dataset = facts.request, facts.dataset
    return {
        "run": request.run,
        "stream": request.stream,
        "model": request.model,
        "cause": {"kind": request.cause_kind, "id": request.cause_id, "detail": request.cause_detail},
        "requester": request.requester,
        "log": _log(facts),
        "dataset": facts.dataset_digest,
        "rows": len(dataset),
        "left_out": dataset.left_out,
        "spec": facts.bundle.digest,
        "fold_code": dataset.fold_code,
        "code": code_digest(),
        "seed": facts.bundle.models[request.model].training.seed,
        "parameters": facts.parameters,
        "rounds": facts.rounds,
        "champion_version": facts.champion_version,
        "built_with": {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
    }


def _log(facts: Facts) -> dict[str, Any]:
    """What was read: the cause's partition by positions of the log, others by the records that stand first in their features."""
    request = facts.request
    said = {"partition": request.partition, "from": facts.dataset.from_position, "to": request.position, "until": request.at_time}
    return {**said, "others": {str(number): records for number, records in facts.others.items()}} if facts.others else said


def _card(facts: Facts) -> str:
    model, request, dataset = facts.bundle.models[facts.request.model], facts.request, facts.dataset
    return f"""# {model.model}

{model.description}

- Owner: {model.owner}; risk: {model.risk}
- Asked for every `{model.trigger}`; answers the probability that `{model.label.value}` in `{model.label.source}`
- Decides yes from {model.threshold} on
- Trained because of: {request.cause_detail} ({request.cause_kind}), at {format_moment(request.at_time)}

## Data

{len(dataset)} rows ({dataset.positives} positive) from {format_moment(int(dataset.times[0]))} to {format_moment(int(dataset.times[-1]))}, `{facts.dataset_digest}`.
Made by the feature store's code `{dataset.fold_code}`.
Left out: {", ".join(f"{number} {reason}" for reason, number in sorted(dataset.left_out.items())) or "nothing"}.

## Quality on the newest rows, unseen in training

| | log loss | AUC | Brier | calibration error | rows |
|---|---|---|---|---|---|
{_row("this version", facts.metrics)}
{_row("logistic baseline", facts.baseline)}
{_row(f"champion (version {facts.champion_version})", facts.champion) if facts.champion else "| champion | none | | | | |"}

## What it looks at most

{", ".join(f"`{name}`" for name in facts.importance[:10])}

## Limits

- The label of the youngest triggers was not known: the newest row is older than the cause by the label's maturity.
- A category that training has not seen counts as missing.
- Scores are probabilities of the population above; monitoring measures how far the stream has moved from it.
"""


def _row(name: str, found: dict[str, float]) -> str:
    figures = [f"{found[key]:.4f}" if key in found else "-" for key in ("log_loss", "auc", "brier", "calibration_error")]
    return f"| {' | '.join([name, *figures, str(int(found['rows']))])} |"
