"""The demonstration's report: what it says of which figures."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from tidemill.demo import render, summary
from tidemill.demo.summary import Champion, Compared, Events, Example, Latency, Month, Quality, Scene, Summary
from tidemill.settings import DATA_DIR

GOOD, POOR = Quality(auc=0.93, logloss=0.24), Quality(auc=0.91, logloss=0.30)


def micros(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp() * 1e6)  # type: ignore[arg-type,misc]


FIGURES = Summary(
    events=Events(raw={"weather": 40, "departures": 60}, log=100, control=5, dead_letters=0, duplicates=0, lost=0),
    inversions=0,
    triggers=60,
    vectors=60,
    predictions=60,
    outcomes=50,
    unlabelled=4,
    models=[
        Champion(
            version=3,
            cause="alert: alert drift (warning) (a-7)",
            rows=1_000,
            auc=0.9,
            approved_by=["somebody"],
            switched_at=summary.Position(partition=0, offset=42),
            verified=True,
        )
    ],
    alerts=1,
    runs=2,
    year=Compared(champion=GOOD, first=POOR),
    monthly=[Month(month="2013-01", champion=GOOD, first=POOR), Month(month="2013-02", champion=POOR, first=GOOD)],
    seconds=12.0,
    events_per_second=1_000.0,
    latency_ms=Latency(p50=3.0, p99=20.0),
)
SCENE = Scene("late", micros(2013, 1, 1), micros(2013, 2, 9, 23), {3: micros(2013, 1, 20)}, Example("N1-flight", 0.97, True))


def shown(figures: Summary = FIGURES, scene: Scene = SCENE, *, data_dir: Path = DATA_DIR, runs: bool = False) -> str:
    out = io.StringIO()
    render.report(Console(file=out, width=150), figures, scene, render.Home(data_dir, runs))
    return out.getvalue()


def test_it_says_which_time_it_is_about() -> None:
    said = shown()
    assert "What happened, 1 Jan 2013 to 9 Feb 2013" in said
    assert "1 Jan 2013 to 9 Feb 2013 took 12 s" in said


def test_a_champion_has_its_cause_and_its_begin() -> None:
    (row,) = (line.split("  ") for line in shown().splitlines() if line.startswith("3 "))
    words = [word.strip() for word in row if word.strip()]
    assert words == ["3", "alert drift (warning)", "1,000", "0.900", "somebody", "20 Jan 2013", "0:42"]


def test_a_gain_has_a_green_bar_and_a_loss_its_sign() -> None:
    lines = {line.split()[0]: line for line in shown().splitlines() if line.startswith("2013-")}
    assert "+20.0%" in lines["2013-01"] and "█" * 20 in lines["2013-01"]
    assert "-25.0%" in lines["2013-02"]


def test_where_to_look_next_can_be_typed() -> None:
    said = shown()
    for command in ("up --detach", "models show late", "models at 42", "trace late:3", "trace N1-flight"):
        assert f"tidemill {command} " in said
    assert "scored 0.97, its label came: yes" in said


def test_a_stack_that_runs_is_not_started_again() -> None:
    said = shown(runs=True, data_dir=Path("/elsewhere"))
    assert "tidemill status --data-dir /elsewhere" in said
    assert "up --detach" not in said


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"predictions": 59}, "60 vectors gave 59 predictions"),
        ({"inversions": 2}, "2 events of the log are known earlier"),
        ({"triggers": 61}, "61 triggers gave 60 vectors"),
        ({"events": FIGURES.events.model_copy(update={"log": 99})}, "100 raw events are not log + dead letters + duplicates"),
        ({"events": FIGURES.events.model_copy(update={"lost": 1})}, "1 raw events are neither in the log nor dead letters"),
        (
            {"models": [FIGURES.models[0].model_copy(update={"verified": False})]},
            "the decision behind the switch to version 3 does not hold",
        ),
    ],
)
def test_what_does_not_add_up_is_said(change: dict[str, Any], says: str) -> None:
    said = shown(FIGURES.model_copy(update=change))
    assert f"does not add up: {says}" in said
    assert "The counts reconcile" not in said


def test_a_replay_without_a_model_has_a_report_too() -> None:
    none = Quality(auc=None, logloss=None)
    bare = FIGURES.model_copy(update={"models": [], "monthly": [], "year": Compared(champion=none, first=none)})
    said = shown(bare, Scene("late", 0, 0, {}, None))
    assert "models show late" in said
    assert "no model serves yet" in said
    assert "Who served" not in said
    assert "Retraining" not in said


def test_where_no_version_served_nothing_is_compared() -> None:
    assert len(summary.compared(pl.DataFrame(), pl.DataFrame(), pl.DataFrame(), None)) == 0


def test_the_example_is_the_surest_that_came_true_of_the_newest_version() -> None:
    predictions = pl.DataFrame(
        {
            "id": ["old", "sure-and-wrong", "sure", "unsure", "unlabelled"],
            "position": [1.0, 2.0, 3.0, 4.0, 5.0],
            "status": ["scored"] * 5,
            "version": [1, 2, 2, 2, 2],
            "score": [0.99, 0.98, 0.9, 0.6, 0.95],
        }
    )
    outcomes = pl.DataFrame({"position": [1.0, 2.0, 3.0, 4.0], "label": [1.0, 0.0, 1.0, 1.0]})
    assert summary.example(predictions, outcomes) == Example("sure", 0.9, True)
    assert summary.example(predictions, outcomes.clear()) is None


def test_the_figures_have_the_shape_that_is_promised() -> None:
    promised = {
        "events": {"raw": {}, "log": 0, "control": 0, "dead_letters": 0, "duplicates": 0},
        **dict.fromkeys(("triggers", "vectors", "predictions", "outcomes", "unlabelled", "alerts", "runs", "seconds"), 0),
        "models": [
            {"version": 0, "cause": "", "rows": 0, "auc": 0, "approved_by": [], "switched_at": {"partition": 0, "offset": 0}}
        ],
        "year": {"champion": {"auc": 0, "logloss": 0}, "first": {"auc": 0, "logloss": 0}},
        "monthly": [{"month": "", "champion": {}, "first": {}}],
        "events_per_second": 0,
        "latency_ms": {"p50": 0, "p99": 0},
    }
    assert lacking(promised, FIGURES.model_dump(mode="json")) == []


def lacking(promised: Any, found: Any, path: str = "") -> list[str]:
    """The paths of `promised` that are not in `found`."""
    if isinstance(promised, list):
        return lacking(promised[0], found[0], f"{path}[]") if promised else []
    if not isinstance(promised, dict):
        return []
    here = [f"{path}.{name}" for name in promised if name not in found]
    return here + [one for name in promised if name in found for one in lacking(promised[name], found[name], f"{path}.{name}")]
