"""How a run trains: which rows, how they are split in time, what is fitted (`training:` in a model's file)."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_serializer, model_validator

from tidemill.spec.stream import Spec
from tidemill.spec.values import DAY, Duration, LastingDuration, format_duration, parse_duration


class Newest(Spec):
    """The newest slice of the rows: a share of them, or those of so much event time."""

    share: float | None = None
    """0..1."""
    span: int | None = None
    """us."""

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: object) -> object:
        match = re.fullmatch(r"newest (?:([1-9]\d?)\s*%|(\S+))", value) if isinstance(value, str) else None
        if match and match[1]:
            return {"share": int(match[1]) / 100}
        if match and (span := parse_duration(match[2])) > 0:
            return {"span": span}
        raise ValueError(f"{value!r} is no slice: write `newest 15%` or `newest 7d`")

    @model_serializer(when_used="json")
    def _text(self) -> str:
        return f"newest {self.share:.0%}" if self.share is not None else f"newest {format_duration(self.span or 0)}"


class Split(Spec):
    """The time-ordered split."""

    test: Newest = Newest.model_validate("newest 15%")
    gap: Duration = DAY
    """Event time left out between training and test rows."""


class LastRows(Spec):
    """Only the newest rows."""

    last: LastingDuration


class XgboostSpec(Spec):
    """Gradient-boosted trees."""

    trials: int = Field(default=8, ge=1, le=200)
    max_trees: int = Field(default=200, ge=1, le=5000)
    early_stopping: int = Field(default=20, ge=1, le=5000)


class LogisticSpec(Spec):
    """The baseline: must be beaten, is never proposed."""


class Candidates(Spec):
    """What is trained."""

    xgboost: XgboostSpec = XgboostSpec()
    logistic: LogisticSpec = LogisticSpec()


class TrainingSpec(Spec):
    """How a run trains."""

    rows: Literal["all"] | LastRows = "all"
    maturity: Duration | None = None
    """How old (event time) a trigger must be; default: the label's `within`."""
    split: Split = Split()
    candidates: Candidates = Candidates()
    seed: int = Field(default=7, ge=0, lt=2**31)
