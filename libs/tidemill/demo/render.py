"""The report at the end of a demonstration, for people."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tidemill.demo.summary import Champion, Compared, Quality, Scene, Summary
from tidemill.settings import DATA_DIR

_BAR_PER_PERCENT, _LONGEST_BAR = 1, 30


@dataclass(frozen=True)
class Home:
    """Where the demonstration's data is, and whether its stack still runs."""

    data_dir: Path
    runs: bool


def report(console: Console, summary: Summary, scene: Scene, home: Home) -> None:
    """Print everything that a reader may want to know, the counts first."""
    period = f"{_day(scene.begin)} to {_day(scene.end)}"
    console.rule(f"What happened, {period}")
    console.print(_opening(summary))
    console.print(_counts(summary))
    _reconcile(console, summary)
    if summary.models:
        console.rule("Who served")
        console.print(_champions(summary, scene))
    if summary.monthly:
        console.rule("What the loop earned")
        console.print(_months(summary))
        _earned(console, summary.year)
    console.rule("How fast")
    console.print(_speed(summary, period))
    console.rule("Where to look next")
    for line in _next(summary, scene, home):
        console.print(line, soft_wrap=True)


def _opening(summary: Summary) -> str:
    return (
        f"{summary.events.log:,} events became {summary.predictions:,} predictions, and {summary.outcomes:,} of these have met their "
        f"label. {_several(summary.alerts, 'alert')} and {_several(summary.runs, 'run')}: "
        + (
            f"{_several(len(summary.models), 'switch', 'es')}, each by a signed decision."
            if summary.models
            else "no model serves yet."
        )
    )


def _several(count: int, word: str, ending: str = "s") -> str:
    return f"{count:,} {word}" + ("" if count == 1 else ending)


def _counts(summary: Summary) -> Table:
    events, pending = summary.events, summary.vectors - summary.outcomes - summary.unlabelled
    beside = f"{_several(events.duplicates, 'duplicate')} and {_several(events.dead_letters, 'dead letter')} are not in it"
    rows = {
        "raw": (sum(events.raw.values()), " · ".join(f"{source} {count:,}" for source, count in events.raw.items())),
        "log": (events.log, f"in the order of known time; {beside}; {_several(events.control, 'control record')} beside them"),
        "triggers": (summary.triggers, "events that ask for a prediction"),
        "vectors": (summary.vectors, "one for each trigger"),
        "predictions": (summary.predictions, "one for each vector"),
        "outcomes": (summary.outcomes, f"labels that came; {summary.unlabelled:,} never will, {pending:,} still may"),
    }
    table = _table("", "events", "", text=(2,))
    for name, (count, text) in rows.items():
        table.add_row(name, f"{count:,}", f"[dim]{text}[/]")
    return table


def _reconcile(console: Console, summary: Summary) -> None:
    wrong = summary.discrepancies()
    for text in wrong:
        console.print(f"[bold red]does not add up:[/] {text}")
    if not wrong:
        console.print("[green]The counts reconcile:[/] every event ended in exactly one place.")


def _champions(summary: Summary, scene: Scene) -> Table:
    table = _table("version", "because of", "rows", "AUC in test", "approved by", "serves from", "at position", text=(1, 4))
    for champion in summary.models:
        since, at = scene.serves_from.get(champion.version), champion.switched_at
        table.add_row(
            str(champion.version),
            _cause(champion),
            f"{champion.rows:,}",
            f"{champion.auc:.3f}",
            ", ".join(champion.approved_by),
            "-" if since is None else _day(since),
            f"{at.partition}:{at.offset:,}",
        )
    return table


def _cause(champion: Champion) -> str:
    """The cause in its own words; its kind and id are in the figures."""
    return champion.cause.partition(": ")[2].rpartition(" (")[0] or champion.cause


def _months(summary: Summary) -> Table:
    table = _table("month", "AUC live", "AUC first", "log loss live", "log loss first", "earned", "", text=(6,))
    for month in summary.monthly:
        table.add_row(month.month, *_pair(month))
    table.add_section()
    table.add_row("all", *_pair(summary.year), style="bold")
    return table


def _pair(both: Compared) -> list[str]:
    live, first = both.champion, both.first
    gain = _gain(live, first)
    figures = [_figure(live.auc), _figure(first.auc), _figure(live.logloss), _figure(first.logloss)]
    return [*figures, "-" if gain is None else f"{gain:+.1%}", _bar(gain or 0.0)]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _gain(live: Quality, first: Quality) -> float | None:
    return None if live.logloss is None or not first.logloss else 1 - live.logloss / first.logloss


def _bar(gain: float) -> str:
    length = min(round(abs(gain) * 100 * _BAR_PER_PERCENT), _LONGEST_BAR)
    return f"[green]{'█' * length}[/]" if gain > 0 else f"[red]{'░' * length}[/]"


def _earned(console: Console, year: Compared) -> None:
    gain = _gain(year.champion, year.first)
    if gain is not None:
        verb = "lowered" if gain >= 0 else "raised"
        console.print(f"Retraining {verb} the log loss by [bold]{abs(gain):.1%}[/] against the first model left alone.")


def _speed(summary: Summary, period: str) -> str:
    latency = summary.latency_ms
    return (
        f"{period} took {summary.seconds:.0f} s: {summary.events_per_second:,.0f} events/s while events flowed, the rest was waiting for "
        f"runs and decisions. From raw record to prediction, in a replay as fast as the loop allows: p50 {latency.p50:,.0f} ms, "
        f"p99 {latency.p99:,.0f} ms."
    )


def _next(summary: Summary, scene: Scene, home: Home) -> list[str]:
    program = "tidemill" if shutil.which("tidemill") else ".venv/bin/tidemill"
    where = "" if home.data_dir == DATA_DIR else f" --data-dir {home.data_dir}"
    lines = [(f"{program} {command}{where}", text) for command, text in _commands(summary, scene, home)]
    width = max(len(command) for command, _ in lines)
    return [f"{command:{width}}   [dim]{text}[/]" for command, text in lines]


def _commands(summary: Summary, scene: Scene, home: Home) -> Iterator[tuple[str, str]]:
    yield ("status", "what runs: the stack is still up") if home.runs else ("up --detach", "the same data again, live")
    yield f"models show {scene.model}", "versions, lineage and history"
    if summary.models:
        last = summary.models[-1]
        yield f"models at {last.switched_at.offset}", f"who served there: version {last.version}"
        yield f"trace {scene.model}:{last.version}", f"why version {last.version} serves: window, alert, run, approval, switch"
    if scene.example:
        came = "yes" if scene.example.label else "no"
        yield (
            f"trace {scene.example.id}",
            f"one event through every service: scored {scene.example.score:.2f}, its label came: {came}",
        )
    yield "audit verify", "recompute the chain of decisions"
    yield "down", "end the stack; the data stays"


def _day(micros: int) -> str:
    return f"{datetime.fromtimestamp(micros / 1e6, UTC):%-d %b %Y}"


def _table(*columns: str, text: tuple[int, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 or number in text else "right")
    return table
