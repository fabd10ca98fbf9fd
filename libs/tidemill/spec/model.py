"""A model's spec: what it predicts, from what, under which policy (`models/<name>.yaml`)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, cast

from pydantic import BeforeValidator, Field, model_serializer, model_validator

from tidemill.spec.stream import Spec
from tidemill.spec.training import TrainingSpec
from tidemill.spec.values import DAY, HOUR, Duration, LastingDuration, TopicWord, format_duration, parse_duration

if TYPE_CHECKING:
    from tidemill.spec.bundle import Bundle

METRICS: Final = ("log_loss", "auc", "brier", "calibration_error")
"""What an evaluation measures. Of auc more is better, of the others less."""
MONITORED: Final = (*METRICS, "psi", "missing")
"""What an alert may watch: the realised metrics, a feature's drift (PSI), a feature's share of missing values."""


class Features(Spec):
    """The model's inputs: columns of the trigger itself, and all features of the named views."""

    event: list[str] = Field(default_factory=list)
    views: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _some(self) -> Features:
        if not self.event and not self.views:
            raise ValueError("a model needs a feature: write `event: [COLUMN]` or `views: [VIEW]`")
        return self


class Label(Spec):
    """Where the truth comes from, later."""

    source: str
    match: str
    """The column that trigger and label share."""
    value: str
    """An expression of the label source's columns; true or false."""
    within: LastingDuration
    """Event time after which a trigger counts as unlabelled."""


def _bar(value: object) -> object:
    if value in ("baseline", "champion") or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise ValueError(f"{value!r} is no bound: write a number, `baseline` or `champion`")


Bar = Annotated[float | str, BeforeValidator(_bar)]
"""A number, or whose number: `baseline` or `champion`."""


class Gate(Spec):
    """A bound that a candidate must hold before anyone is asked."""

    metric: Literal[METRICS]  # type: ignore[valid-type]
    on: Literal["test"] = "test"
    below: Bar | None = None
    above: Bar | None = None

    @model_validator(mode="after")
    def _one_side(self) -> Gate:
        _one_bound(self.metric, self.below, self.above)
        return self

    @property
    def bound(self) -> float | str:
        """The number, or `baseline` or `champion`."""
        return cast("float | str", self.above if self.below is None else self.below)

    def holds(self, value: float, bound: float) -> bool:
        """Whether the candidate's figure is on the right side of the bound's."""
        return value < bound if self.below is not None else value > bound


class Bound(Spec):
    """A number, or a multiple of the champion's own figure on its test rows (`1.2 x test`)."""

    value: float
    times_test: bool = False

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: object) -> object:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"value": value}
        if isinstance(value, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?) x test", value)):
            return {"value": float(match[1]), "times_test": True}
        raise ValueError(f"{value!r} is no bound: write a number, or `1.2 x test`")

    @model_serializer(when_used="json")
    def _text(self) -> float | str:
        return f"{self.value!r} x test" if self.times_test else self.value

    def resolve(self, test: float | None) -> float | None:
        """The bound's number where the champion's test figure is `test`; None where it needs one and there is none."""
        if not self.times_test:
            return self.value
        return None if test is None else self.value * test


class Scope(Spec):
    """Which features an alert watches: the `top` most important ones, or those named."""

    top: int | None = None
    names: list[str] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: object) -> object:
        if isinstance(value, str) and (match := re.fullmatch(r"top ([1-9]\d{0,5}) features", value)):
            return {"top": int(match[1])}
        if isinstance(value, list) and value:
            return {"names": value}
        raise ValueError(f"{value!r} is no choice of features: write `top 10 features` or a list of their names")

    @model_serializer(when_used="json")
    def _text(self) -> str | list[str]:
        return f"top {self.top} features" if self.top is not None else self.names


class AlertSpec(Spec):
    """A bound on a monitored figure."""

    metric: Literal[MONITORED]  # type: ignore[valid-type]
    of: Scope | None = None
    """For psi and missing; default: all of the model's features."""
    above: Bound | None = None
    below: Bound | None = None
    windows: int = Field(default=1, ge=1, le=1000)
    """So many windows in a row raise it."""
    clears_below: float | None = None
    clears_above: float | None = None
    min_labels: int = Field(default=0, ge=0, lt=2**31)
    """Of a realised figure: a window with fewer labels of what the champion itself has scored does not count, neither way."""
    severity: Literal["info", "warning", "critical"] = "warning"

    @model_validator(mode="after")
    def _one_side(self) -> AlertSpec:
        if (self.above is None) == (self.below is None):
            raise ValueError("an alert has one bound: write `above: ...` or `below: ...`")
        needs_above, needs_below = self.clears_below is not None, self.clears_above is not None
        if (needs_above and self.above is None) or (needs_below and self.below is None):
            raise ValueError("it clears on the wrong side: write `clears_below` beside `above`, `clears_above` beside `below`")
        for bound, clears, side in ((self.above, self.clears_below, 1), (self.below, self.clears_above, -1)):
            if bound and clears is not None and not bound.times_test and side * clears > side * bound.value:
                raise ValueError(
                    f"it is cleared at {clears}, where it is raised already: write {bound.value} or {'less' if side == 1 else 'more'}"
                )
        if self.of is not None and self.metric not in ("psi", "missing"):
            raise ValueError(f"{self.metric} is a figure of the model: write `of` beside psi and missing only")
        return self


class Monitors(Spec):
    """What is watched, per window of event time."""

    window: LastingDuration = DAY
    reference: Literal["training"] = "training"
    alerts: dict[TopicWord, AlertSpec] = Field(default_factory=dict)


_CAUSES: Final = "one of `labels: N`, `alert: NAME`, `every: DURATION`, `manual`"


class RetrainCause(Spec):
    """One of the four causes."""

    labels: int | None = Field(default=None, ge=1, lt=2**31)
    """So many outcomes in all: for the first model only."""
    alert: str | None = None
    every: LastingDuration | None = None
    """Event time since the last run was requested."""
    manual: bool = False

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: object) -> object:
        if value == "manual":
            return {"manual": True}
        if not isinstance(value, dict):
            raise ValueError(f"{value!r} is no cause: write {_CAUSES}")
        return value

    @model_validator(mode="after")
    def _one_cause(self) -> RetrainCause:
        if sum([self.labels is not None, self.alert is not None, self.every is not None, self.manual]) != 1:
            raise ValueError(f"it is not one cause: write {_CAUSES}")
        return self


class Budget(Spec):
    """At most so many runs within so much event time."""

    runs: int
    within: LastingDuration

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: object) -> object:
        match = re.fullmatch(r"([1-9]\d{0,5}) in (\S+)", value) if isinstance(value, str) else None
        if not match:
            raise ValueError(f"{value!r} is no budget: write `4 in 30d`")
        parse_duration(match[2])
        return {"runs": int(match[1]), "within": match[2]}

    @model_serializer(when_used="json")
    def _text(self) -> str:
        return f"{self.runs} in {format_duration(self.within)}"


class Retrain(Spec):
    """When a run is requested."""

    on: list[RetrainCause] = Field(default_factory=lambda: [RetrainCause(manual=True)])
    cool_down: Duration = 0
    """Event time since the last run was requested."""
    budget: Budget | None = None
    turnaround: Duration = 6 * HOUR
    """Event time that a replay grants to a run, its review and its switch (R20)."""


class Approval(Spec):
    """Who decides."""

    approvers: list[TopicWord] = Field(min_length=1, max_length=1)
    """A group of pinned public keys, which is also the name of their folder."""
    required: int = Field(default=1, ge=1, le=100)
    deadline: LastingDuration = 3 * DAY
    """Wall time, after which the request lapses as rejected."""


class Rollout(Spec):
    """How an approved version takes over."""

    strategy: Literal["immediate"] = "immediate"
    shadow: Literal["first", "none"] = "none"
    """`first`: the first champion goes on scoring silently after it was replaced."""


class ModelSpec(Spec):
    """`models/<name>.yaml`."""

    version: Literal[1]
    model: TopicWord
    description: str = ""
    owner: str
    risk: Literal["low", "medium", "high"] = "medium"
    trigger: Annotated[str, Field(pattern=r"^[a-z0-9-]+\.[a-z0-9-]+$")]
    """`<stream>.<trigger>`."""
    task: Literal["binary"]
    features: Features
    label: Label
    threshold: float = Field(default=0.5, gt=0, lt=1)
    training: TrainingSpec = TrainingSpec()
    gates: dict[TopicWord, Gate] = Field(default_factory=dict)
    monitors: Monitors = Monitors()
    retrain: Retrain = Retrain()
    approval: Approval
    rollout: Rollout = Rollout()

    @property
    def stream(self) -> str:
        """The trigger's stream."""
        return self.trigger.partition(".")[0]

    @property
    def trigger_name(self) -> str:
        """The trigger's name in its stream."""
        return self.trigger.partition(".")[2]

    @property
    def maturity(self) -> int:
        """How old (event time, us) a trigger must be to be a row of training."""
        return self.label.within if self.training.maturity is None else self.training.maturity

    def trigger_source(self, bundle: Bundle) -> str:
        """The source whose events ask for predictions."""
        return bundle.stream.triggers[self.trigger_name].source


def _one_bound(metric: Any, below: object, above: object) -> None:
    if (below is None) == (above is None):
        raise ValueError("a gate has one bound: write `below: ...` or `above: ...`")
    if (metric == "auc") != (above is not None):
        raise ValueError(
            f"of {metric} {'more' if metric == 'auc' else 'less'} is better: write `{'above' if metric == 'auc' else 'below'}`"
        )
