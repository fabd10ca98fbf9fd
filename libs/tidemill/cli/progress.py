"""How far a replay is, as bars that move."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tidemill.feed.gate import Gate
from tidemill.feed.replay import Sent
from tidemill.feed.session import Session


def progress(console: Console) -> Progress:
    """The bars of a replay, none yet."""
    columns = (TextColumn("{task.description:9}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn())
    return Progress(*columns, console=console)


def teller(bar: Progress, session: Session) -> Callable[[Sent, Gate], None]:
    """Shows how far a replay is: events, date, throughput."""
    lanes, started = session.timeline.lanes, time.monotonic()
    total = sum(len(lane.known) for lane in lanes)
    task = bar.add_task("events", total=total, told="", completed=sum(lane.count(session.begin) for lane in lanes))

    def tell(sent: Sent, gate: Gate) -> None:
        count = sum(sent.events.values())
        rate = count / max(time.monotonic() - started, 1e-9)
        waits = "" if gate.idle else "  waits for a decision"
        told = f"{count:>9,}  {day(sent.until)}  {rate:,.0f}/s{waits}"
        bar.update(task, completed=sum(lane.count(sent.until) for lane in lanes), told=told)

    return tell


def day(micros: int) -> str:
    """A day of event time."""
    return datetime.fromtimestamp(micros / 1e6, UTC).strftime("%d %b %Y")
