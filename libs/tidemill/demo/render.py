"""The report at the end of a demonstration, for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tidemill.demo.summary import Compared, Quality, Summary


def report(console: Console, summary: Summary) -> None:
    """Print everything that a reader may want to know, the counts first."""
    console.rule("What happened")
    console.print(_counts(summary))
    _reconcile(console, summary)
    console.rule("Who served")
    console.print(_champions(summary))
    console.rule("What the loop earned")
    console.print(_months(summary))
    _earned(console, summary.year)
    _speed(console, summary)
    _next(console, summary)


def _counts(summary: Summary) -> Table:
    table = _table("", "events")
    rows = {f"raw · {source}": count for source, count in summary.events.raw.items()} | {
        "log": summary.events.log,
        "control records in the log": summary.events.control,
        "duplicates": summary.events.duplicates,
        "dead letters": summary.events.dead_letters,
        "triggers": summary.triggers,
        "vectors": summary.vectors,
        "predictions": summary.predictions,
        "outcomes": summary.outcomes,
        "unlabelled": summary.unlabelled,
        "alerts": summary.alerts,
        "runs": summary.runs,
    }
    for name, count in rows.items():
        table.add_row(name, f"{count:,}")
    return table


def _reconcile(console: Console, summary: Summary) -> None:
    wrong = summary.discrepancies()
    for text in wrong:
        console.print(f"[bold red]does not add up:[/] {text}")
    if not wrong:
        console.print("[green]The counts reconcile:[/] every event ended in exactly one place.")


def _champions(summary: Summary) -> Table:
    table = _table("version", "cause", "rows", "AUC in test", "approved by", "serves from", text=(1, 4))
    for champion in summary.models:
        place = f"{champion.switched_at.partition}:{champion.switched_at.offset:,}"
        table.add_row(
            str(champion.version),
            champion.cause,
            f"{champion.rows:,}",
            f"{champion.auc:.3f}",
            ", ".join(champion.approved_by),
            place,
        )
    return table


def _months(summary: Summary) -> Table:
    table = _table("month", "AUC live", "AUC first", "log loss live", "log loss first", "earned")
    for month in summary.monthly:
        table.add_row(month.month, *_pair(month))
    table.add_section()
    table.add_row("year", *_pair(summary.year))
    return table


def _pair(both: Compared) -> list[str]:
    live, first = both.champion, both.first
    return [_figure(live.auc), _figure(first.auc), _figure(live.logloss), _figure(first.logloss), _gain(live, first)]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _gain(live: Quality, first: Quality) -> str:
    return "-" if live.logloss is None or not first.logloss else f"{1 - live.logloss / first.logloss:+.1%}"


def _earned(console: Console, year: Compared) -> None:
    if year.champion.logloss is not None and year.first.logloss:
        gain = 1 - year.champion.logloss / year.first.logloss
        console.print(f"Retraining lowered the log loss by [bold]{gain:.1%}[/] against the first model left alone.")


def _speed(console: Console, summary: Summary) -> None:
    console.print(
        f"{summary.seconds:.0f} s for the year, {summary.events_per_second:,.0f} events/s while events flowed; raw record to prediction:"
        f" p50 {summary.latency_ms.p50:.0f} ms, p99 {summary.latency_ms.p99:.0f} ms at full replay speed."
    )


def _next(console: Console, summary: Summary) -> None:
    console.rule("Where to look next")
    model = "late-arrival"
    console.print("tidemill up --detach                       the same data again, live")
    console.print(f"tidemill models show {model}          versions, lineage and history")
    if summary.models:
        offset = summary.models[-1].switched_at.offset
        console.print(f"tidemill models at {model} --position {offset}   which version served there")
    console.print("tidemill audit verify                      recompute the chain of decisions")
    console.print("tidemill trace <flight id>                 one event's way through every service")


def _table(*columns: str, text: tuple[int, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 or number in text else "right")
    return table
