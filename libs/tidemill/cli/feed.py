"""`tidemill feed`: replay a use case's history, from where the last replay stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tidemill.cli.options import DataDir, connected
from tidemill.errors import Refused
from tidemill.feed.gate import FOREVER, Gate
from tidemill.feed.replay import Sent
from tidemill.feed.session import Session
from tidemill.spec.values import parse_moment


def feed(
    folder: Annotated[Path, typer.Argument(help="The use case, with a feed.py.")],
    until: Annotated[str | None, typer.Option(help="Stop before this event time (ISO 8601). Default: the history's end.")] = None,
    speed: Annotated[
        float | None, typer.Option(help="Seconds of event time per second; default: as fast as the loop allows.")
    ] = None,
    hold: Annotated[bool, typer.Option(help="Wait for windows to be judged and decisions to be made (R20).")] = True,
    data_dir: DataDir = None,
) -> None:
    """Replay a use case's history into its raw topics."""
    session = Session(connected(data_dir), folder)
    end = moment(until) if until else session.timeline.end
    try:
        with progress(Console(stderr=True)) as bar:
            sent = session.run(end, hold, paced(max(session.begin, session.timeline.first), speed), teller(bar, session))
    finally:
        session.close()
    for source, count in sent.events.items():
        typer.echo(f"{source}: {count:,} events")
    if end < session.timeline.end:
        typer.echo("the history goes on: live events wait until a later `tidemill feed` has come to its end")


def moment(text: str) -> int:
    """A time that a person wrote, in us; Refused when it is none."""
    try:
        return parse_moment(text)
    except ValueError as error:
        raise Refused("bad-time", f"{text!r}: {error}; write 2013-03-01 or 2013-03-01T12:00") from None


def paced(begin: int, speed: float | None) -> Callable[[], int]:
    """The event time that may be reached by now."""
    if speed is None:
        return lambda: FOREVER
    if speed <= 0:
        raise Refused("bad-speed", "--speed is seconds of event time per second, above 0")
    started = time.monotonic()
    return lambda: begin + int((time.monotonic() - started) * speed * 1e6)


def progress(console: Console) -> Progress:
    """The bar of a replay."""
    columns = (TextColumn("{task.description:12}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn())
    return Progress(*columns, console=console)


def teller(bar: Progress, session: Session) -> Callable[[Sent, Gate], None]:
    """Shows how far a replay is: events, date, throughput."""
    lanes, started = session.timeline.lanes, time.monotonic()
    total = sum(len(lane.known) for lane in lanes)
    task = bar.add_task("feeding", total=total, told="", completed=sum(lane.count(session.begin) for lane in lanes))

    def tell(sent: Sent, gate: Gate) -> None:
        count = sum(sent.events.values())
        rate = count / max(time.monotonic() - started, 1e-9)
        waits = "" if gate.idle else "  waits for a decision"
        told = f"{count:>9,} events  {datetime.fromtimestamp(sent.until / 1e6, UTC):%d %b %Y}  {rate:,.0f}/s{waits}"
        bar.update(task, completed=sum(lane.count(sent.until) for lane in lanes), told=told)

    return tell
