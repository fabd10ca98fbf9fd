"""The demonstration's figures, computed from the ledger; `tidemill demo --output json` writes exactly this shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel

from tidemill.models import metrics

F8 = npt.NDArray[np.float64]


class Position(BaseModel):
    """A place in the stream's log."""

    partition: int
    offset: int


class Events(BaseModel):
    """Where every event ended."""

    raw: dict[str, int]
    log: int
    control: int
    dead_letters: int
    duplicates: int
    lost: int
    """Raw events that are neither in the log nor dead, nor repeat one that is in the log: none, ever."""


class Champion(BaseModel):
    """One version that served: why it exists, what it learned from, who let it in, and where."""

    version: int
    cause: str
    rows: int
    auc: float
    approved_by: list[str]
    switched_at: Position
    verified: bool
    """Whether the log has this switch and the decision in it holds, by the keys that are pinned here."""


class Quality(BaseModel):
    """How well scores met their labels; None where nothing was scored."""

    auc: float | None
    logloss: float | None


class Compared(BaseModel):
    """The live champion beside the first one, over the predictions that both scored."""

    champion: Quality
    first: Quality


class Month(Compared):
    """One calendar month (of the trigger's event time)."""

    month: str


class Latency(BaseModel):
    """Milliseconds from the raw record's append to its prediction's."""

    p50: float
    p99: float


class Summary(BaseModel):
    """All figures of one demonstration."""

    events: Events
    inversions: int
    """Log events that are known earlier than the one before them: none, ever."""
    triggers: int
    vectors: int
    predictions: int
    outcomes: int
    unlabelled: int
    models: list[Champion]
    alerts: int
    runs: int
    year: Compared
    monthly: list[Month]
    seconds: float
    """That the replay took, waits for runs and decisions included (R20)."""
    events_per_second: float
    """Log events over the seconds in which the replay did not wait for a run or a decision."""
    latency_ms: Latency

    def discrepancies(self) -> list[str]:
        """Sentences about counts that do not add up; empty when every event ended in exactly one place."""
        raw, events = sum(self.events.raw.values()), self.events
        unproven = [str(one.version) for one in self.models if not one.verified]
        checks = [
            (events.lost == 0, f"{events.lost} raw events are neither in the log nor dead letters nor repeats"),
            (
                raw == events.log + events.dead_letters + events.duplicates,
                f"{raw} raw events are not log + dead letters + duplicates",
            ),
            (self.triggers == self.vectors, f"{self.triggers} triggers gave {self.vectors} vectors"),
            (self.vectors == self.predictions, f"{self.vectors} vectors gave {self.predictions} predictions"),
            (self.outcomes + self.unlabelled <= self.vectors, "more outcomes than triggers"),
            (not unproven, f"the decision behind the switch to version {', '.join(unproven)} does not hold"),
            (self.inversions == 0, f"{self.inversions} events of the log are known earlier than the one before them"),
        ]
        return [text for holds, text in checks if not holds]


@dataclass(frozen=True)
class Example:
    """One prediction that is worth a look."""

    id: str
    """The trigger's."""
    score: float
    label: bool


@dataclass(frozen=True)
class Scene:
    """What a report says beside the figures. Times are event time, us."""

    model: str
    begin: int
    end: int
    """Of the newest prediction."""
    serves_from: Mapping[int, int]
    """By version."""
    example: Example | None


def example(predictions: pl.DataFrame, outcomes: pl.DataFrame) -> Example | None:
    """Of the newest version's labelled predictions, the surest that came true; None where none is labelled."""
    joined = predictions.filter(pl.col("status") == "scored").join(outcomes, on="position", how="inner")
    newest = joined.filter(pl.col("version") == pl.col("version").max()).sort("label", "score", "position", descending=True)
    return Example(newest["id"][0], newest["score"][0], bool(newest["label"][0])) if len(newest) else None


def compared(champion: pl.DataFrame, shadow: pl.DataFrame, outcomes: pl.DataFrame, first: int | None) -> pl.DataFrame:
    """One row per labelled trigger that both the champion and version `first` scored: event_time, label, champion, first.

    While the first version is the champion, its own prediction is both.
    """
    if first is None:
        return pl.DataFrame(schema=dict.fromkeys(("event_time", "label", "champion", "first"), pl.Float64))
    live = champion.filter(pl.col("status") == "scored").select("position", "event_time", "version", champion="score")
    silent = shadow.filter(pl.col("version") == first).select("position", shadow="score") if len(shadow) else None
    joined = live.join(outcomes, on="position", how="inner")
    joined = (
        joined.join(silent, on="position", how="left")
        if silent is not None
        else joined.with_columns(shadow=pl.lit(None, pl.Float64))
    )
    both = joined.with_columns(first=pl.when(pl.col("version") == first).then(pl.col("champion")).otherwise(pl.col("shadow")))
    return both.filter(pl.col("first").is_not_null()).select("event_time", "label", "champion", "first").sort("event_time")


def quality(label: F8, score: F8) -> Quality:
    """AUC and log loss; an AUC needs both labels."""
    if not len(label):
        return Quality(auc=None, logloss=None)
    auc = metrics.auc(label, score) if 0 < label.sum() < len(label) else None
    return Quality(auc=_finite(auc), logloss=_finite(metrics.log_loss(label, score)))


def comparison(rows: pl.DataFrame) -> Compared:
    """The two qualities over rows of `compared`."""
    label = rows["label"].to_numpy()
    return Compared(champion=quality(label, rows["champion"].to_numpy()), first=quality(label, rows["first"].to_numpy()))


def by_month(rows: pl.DataFrame) -> list[Month]:
    """`comparison` of every month that has rows."""
    months = rows.with_columns(month=pl.from_epoch(pl.col("event_time").cast(pl.Int64), "us").dt.strftime("%Y-%m"))
    parts: Sequence[tuple[tuple[object, ...], pl.DataFrame]] = list(months.group_by("month", maintain_order=True))
    return [Month(month=str(key[0]), **comparison(part).model_dump()) for key, part in parts]


def latency(triggered: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64]) -> Latency:
    """Percentiles of predicted - triggered, both in ms."""
    if not len(triggered):
        return Latency(p50=0.0, p99=0.0)
    p50, p99 = np.percentile(predicted - triggered, [50, 99])
    return Latency(p50=float(p50), p99=float(p99))


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
