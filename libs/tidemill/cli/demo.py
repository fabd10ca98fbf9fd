"""`tidemill demo`: the whole loop over a year of real flights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from tidemill.cli.feed import moment
from tidemill.cli.options import AsOutput, DataDir, Output
from tidemill.cli.progress import day, progress, teller
from tidemill.demo import render, run, story
from tidemill.demo.run import Counts
from tidemill.events.monitoring import WindowClosed
from tidemill.feed.gate import Gate
from tidemill.feed.replay import Sent
from tidemill.feed.session import Session
from tidemill.settings import Settings
from tidemill.spec import load

Tell = Callable[[Sent, Gate, Counts], None]


def demo(
    folder: Annotated[Path, typer.Argument(help="The use case.")] = Path("usecases/flights"),
    until: Annotated[str | None, typer.Option(help="Stop before this event time. Default: the whole year.")] = None,
    headless: Annotated[bool, typer.Option("--headless", help="No progress bar: plain lines, for logs.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running.")] = False,
    data_dir: DataDir = None,
    output: AsOutput = Output.text,
) -> None:
    """Run the whole loop over a year of real flights, and report what it did."""
    home, bundle, end = Settings.given(data_dir).data_dir, load(folder), moment(until) if until else None
    console = Console(highlight=False, force_terminal=False if headless else None)
    run.prepare(home, bundle)
    with run.stack(home, keep) as settings:
        run.apply(folder, home, bundle)
        session = Session(settings, folder, [*story.TOLD, WindowClosed])
        with run.deciding(home, bundle), _telling(console, session, headless) as (shown, tell):
            clock, _ = run.replay(session, session.timeline.end if end is None else end, shown, tell)
        session.close()
        console.print("reading everything back")
        reports = run.report(session, clock)
    for summary, scene in reports:
        render.report(console, summary, scene, render.Home(home, keep))
        if output is Output.json:
            file = home / ("demo-summary.json" if len(reports) == 1 else f"demo-summary-{scene.model}.json")
            file.write_text(summary.model_dump_json(indent=2))
            console.print(f"figures: {file}")
    if any(summary.discrepancies() for summary, _ in reports):
        raise typer.Exit(1)


@contextmanager
def _telling(console: Console, session: Session, headless: bool) -> Iterator[tuple[Console, Tell]]:
    """(where to print, what to tell of the progress)."""
    if headless:
        yield console, _monthly(console)
        return
    with progress(console) as bar:
        yield bar.console, _bars(bar, session)


def _bars(bar: Progress, session: Session) -> Tell:
    """The replay's bar, and below it what comes of its events."""
    events = {lane.source: len(lane.known) for lane in session.timeline.lanes}
    asked = sum(events[model.trigger_source(session.bundle)] for model in session.bundle.models.values())
    replay = teller(bar, session)
    predicted, outcomes = (bar.add_task(name, total=asked, told="") for name in ("predicted", "outcomes"))

    def tell(sent: Sent, gate: Gate, counts: Counts) -> None:
        replay(sent, gate)
        bar.update(predicted, completed=counts.predictions, told=f"{counts.predictions:>9,}")
        bar.update(outcomes, completed=counts.outcomes, told=f"{counts.outcomes:>9,}")

    return tell


def _monthly(console: Console) -> Tell:
    """A line for each month of event time."""
    last = ""

    def tell(sent: Sent, gate: Gate, counts: Counts) -> None:
        nonlocal last
        month = datetime.fromtimestamp(sent.until / 1e6, UTC).strftime("%b %Y")
        if month != last:
            last = month
            console.print(
                f"{day(sent.until)}: {sum(sent.events.values()):,} events, {counts.predictions:,} predictions, {counts.outcomes:,} outcomes"
            )

    return tell
