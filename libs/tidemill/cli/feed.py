"""`tidemill feed`: replay a use case's history, from where the last replay stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from tidemill.cli.options import DataDir, connected
from tidemill.cli.progress import progress, teller
from tidemill.errors import Refused
from tidemill.feed.gate import FOREVER
from tidemill.feed.session import Session
from tidemill.spec.values import parse_moment

TICK: Final = 0.1
"""Seconds between two stretches of a paced replay: each ends with a promise of every source, and the log keeps what follows of it."""


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
    asked = moment(until) if until else None
    session = Session(connected(data_dir), folder)
    end = session.timeline.end if asked is None else asked
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
        raise Refused("bad-time", str(error)) from None


def paced(begin: int, speed: float | None, clock: Callable[[], float] = time.monotonic) -> Callable[[], int]:
    """The event time that may be reached by now; it moves on once a tick."""
    if speed is None:
        return lambda: FOREVER
    if speed <= 0:
        raise Refused("bad-speed", "--speed is seconds of event time per second, above 0")
    started = clock()
    return lambda: begin + int((clock() - started) // TICK * TICK * speed * 1e6)
