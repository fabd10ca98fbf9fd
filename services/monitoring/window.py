"""Closing a window: from what was collected to the facts that are said. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.monitoring.drift import Drift
from services.monitoring.model import LABELLED, SCORES, Alert, Structs, Watch
from tidemill.events.identity import event_id
from tidemill.events.monitoring import AlertCleared, AlertRaised, WindowAlert, WindowClosed
from tidemill.models import metrics
from tidemill.models.reference import Reference
from tidemill.spec.model import AlertSpec, ModelSpec

DECILES = tuple(number / 10 for number in range(11))
LEAST_VECTORS: Final = 100
"""A window with fewer vectors judges no drift: over the ten bins of a number, a PSI of fewer is noise."""
DRIFT: Final = ("psi", "missing")
"""Metrics of features; all others are realised."""
Said = WindowClosed | AlertRaised | AlertCleared


@dataclass(frozen=True)
class Closing:
    """What closes a window: the record at `position`, in a shard of a stream; `ended`: no source will say more."""

    stream: str
    partition: int
    position: int
    ended: bool = False


@dataclass(frozen=True)
class Figures:
    """A window's figures, by metric; those of features by feature."""

    realised: dict[str, float]
    shadow: dict[str, float]
    psi: dict[str, float]
    missing: dict[str, float]
    labels: int
    """What the realised figures rest on."""
    vectors: int
    """What drift rests on."""


def close(watch: Watch, model: ModelSpec, closing: Closing, reference: Reference | None) -> list[Said]:
    """The facts of the open window, alerts first; the watch goes on with the next window."""
    assert watch.begin is not None
    begin, end = watch.begin, watch.end
    figures = _figures(watch, reference)
    said, alerts = _alerts(watch, model, closing, end, figures, reference)
    scores = watch.scores["score"]
    closed = WindowClosed(
        stream=closing.stream,
        model=model.model,
        partition=closing.partition,
        window_start=begin,
        window_end=end,
        position=closing.position,
        champion=watch.version,
        predictions=watch.predictions,
        scored=watch.scored,
        outcomes=watch.outcomes,
        outcomes_total=watch.outcomes_total,
        unlabelled=watch.unlabelled,
        score_mean=float(scores.mean()) if len(scores) else None,
        score_quantiles=np.quantile(scores, DECILES).tolist() if len(scores) else [],
        metrics=figures.realised,
        shadow_metrics=figures.shadow,
        psi=figures.psi,
        missing=figures.missing,
        alerts=alerts,
        ended=closing.ended,
    )
    _begin_next(watch, model.monitors.window)
    return [*said, closed]


def withdraw(watch: Watch, model: ModelSpec, names: list[str], closing: Closing, time: int) -> list[Said]:
    """What clears the alerts of these names that are up, where a spec that is adopted at `time` (us) has them no more."""
    said: list[Said] = []
    for name in names:
        alert = watch.alerts.pop(name, Alert())
        if alert.up:
            said.append(
                AlertCleared(
                    alert=alert.up,
                    stream=closing.stream,
                    model=model.model,
                    name=name,
                    metric=model.monitors.alerts[name].metric,
                    value=math.nan,
                    bound=math.nan,
                    window_end=time,
                    position=closing.position,
                    reason="withdrawn",
                )
            )
    return said


def _begin_next(watch: Watch, window: int) -> None:
    watch.open(watch.end, window)
    watch.predictions, watch.scored, watch.unlabelled, watch.outcomes = 0, 0, 0, 0
    watch.scores, watch.labelled, watch.drift = np.zeros(0, SCORES), np.zeros(0, LABELLED), Drift()


def _figures(watch: Watch, reference: Reference | None) -> Figures:
    """Realised figures are those of the champion alone: labels of what an earlier one scored say nothing of it."""
    labelled = watch.labelled[watch.labelled["version"] == watch.version]
    return Figures(
        realised=_realised(labelled, "score"),
        shadow=_realised(labelled, "shadow"),
        psi=watch.drift.psi(reference) if reference else {},
        missing=watch.drift.shares(reference) if reference else {},
        labels=len(labelled),
        vectors=watch.drift.rows,
    )


def _realised(labelled: Structs, which: str) -> dict[str, float]:
    """The metrics of scores that met their labels; an AUC needs both labels."""
    known = ~np.isnan(labelled[which])
    label, score = labelled["label"][known], labelled[which][known]
    if not len(label):
        return {}
    return metrics.evaluate(label, score)


def _alerts(
    watch: Watch, model: ModelSpec, closing: Closing, end: int, figures: Figures, reference: Reference | None
) -> tuple[list[Said], list[WindowAlert]]:
    """What is raised and cleared by this window, and every alert that is up or was cleared in it."""
    said: list[Said] = []
    listed: list[WindowAlert] = []
    for name, spec in model.monitors.alerts.items():
        fact = _judge(watch, model, name, spec, closing, end, figures, reference)
        alert = watch.alert(name)
        if isinstance(fact, AlertCleared):
            listed.append(WindowAlert(id=fact.alert, name=name, severity=spec.severity, state="cleared"))
        elif alert.up:
            listed.append(WindowAlert(id=alert.up, name=name, severity=spec.severity, state="raised" if fact else "active"))
        said += [fact] if fact else []
    return said, listed


def _judge(
    watch: Watch,
    model: ModelSpec,
    name: str,
    spec: AlertSpec,
    closing: Closing,
    end: int,
    figures: Figures,
    reference: Reference | None,
) -> AlertRaised | AlertCleared | None:
    """One alert after one window. A window whose figure rests on too little, or is not there, counts neither way."""
    alert, bound = watch.alert(name), _bound(spec, reference)
    worst = _worst(spec, figures, reference)
    if bound is None or worst is None or not _enough(spec, figures):
        return None
    feature, value = worst
    bad = value > bound if spec.above is not None else value < bound
    alert.streak = alert.streak + 1 if bad else 0
    if alert.up:
        return _cleared(watch, model, name, spec, closing, end, value, bound)
    if alert.streak < spec.windows:
        return None
    alert.up = event_id(f"{closing.stream}[{closing.partition}]:{closing.position}", "alert", f"{model.model}/{name}/{end}")
    evidence = figures.realised if feature is None else _top(figures.psi if spec.metric == "psi" else figures.missing)
    return AlertRaised(
        alert=alert.up,
        stream=closing.stream,
        model=model.model,
        name=name,
        severity=spec.severity,
        metric=spec.metric,
        feature=feature,
        value=value,
        bound=bound,
        windows=alert.streak,
        window_end=end,
        position=closing.position,
        evidence=evidence,
    )


def _cleared(
    watch: Watch, model: ModelSpec, name: str, spec: AlertSpec, closing: Closing, end: int, value: float, bound: float
) -> AlertCleared | None:
    """The end of an alert that is up, once the figure is back behind its clearing bound."""
    alert = watch.alert(name)
    if spec.above is not None:
        over = value < (bound if spec.clears_below is None else spec.clears_below)
    else:
        over = value > (bound if spec.clears_above is None else spec.clears_above)
    if not over:
        return None
    identity, alert.up, alert.streak = alert.up, "", 0
    return AlertCleared(
        alert=identity,
        stream=closing.stream,
        model=model.model,
        name=name,
        metric=spec.metric,
        value=value,
        bound=bound,
        window_end=end,
        position=closing.position,
        reason="recovered",
    )


def _enough(spec: AlertSpec, figures: Figures) -> bool:
    """Whether the alert's figure rests on enough to be judged."""
    return figures.vectors >= LEAST_VECTORS if spec.metric in DRIFT else figures.labels >= spec.min_labels


def _bound(spec: AlertSpec, reference: Reference | None) -> float | None:
    side = spec.above or spec.below
    assert side is not None
    return side.resolve(reference.test.get(spec.metric) if reference else None)


def _worst(spec: AlertSpec, figures: Figures, reference: Reference | None) -> tuple[str | None, float] | None:
    """(feature, value) farthest on the bad side; no feature for a figure of the model."""
    if spec.metric not in DRIFT:
        return (None, figures.realised[spec.metric]) if spec.metric in figures.realised else None
    found = figures.psi if spec.metric == "psi" else figures.missing
    names = _scope(spec, reference)
    chosen = {name: found[name] for name in names if name in found}
    if not chosen:
        return None
    pick = max if spec.above is not None else min
    name = pick(chosen, key=lambda one: chosen[one])
    return name, chosen[name]


def _scope(spec: AlertSpec, reference: Reference | None) -> list[str]:
    if reference is None:
        return []
    if spec.of is None:
        return reference.names
    return list(reference.importance[: spec.of.top]) if spec.of.top is not None else spec.of.names


def _top(found: Mapping[str, float]) -> dict[str, float]:
    """The five largest."""
    return dict(sorted(found.items(), key=lambda item: -item[1])[:5])
