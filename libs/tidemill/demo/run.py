"""The demonstration, step by step: a stack of its own, a spec, an approver, a year of events, a report."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from tidemill.bus.consumer import reader, watermarks
from tidemill.bus.control_client import Heard
from tidemill.demo import story
from tidemill.demo.gather import Clock, gather
from tidemill.demo.summary import Scene, Summary
from tidemill.errors import Refused, TidemillError
from tidemill.events.monitoring import WindowClosed
from tidemill.feed.gate import Gate
from tidemill.feed.replay import Sent
from tidemill.feed.session import Session
from tidemill.settings import Settings
from tidemill.stack.state import State
from tidemill.trust import keys

MARK = "demo"
"""A file that says whose data directory it is: a demonstration replaces an earlier one's data, and no other."""
GROUP, APPROVER = "ops-review", "demo-approver"
AUTHOR = "flight-ops"
PATIENCE = 120.0
"""Seconds without a new prediction after which something is stuck."""


@dataclass
class Counts:
    """What the loop has said so far."""

    predictions: int = 0
    outcomes: int = 0
    waiting: float = 0.0
    """Seconds in which a decision was waited for."""
    _since: float | None = field(default=None, repr=False)

    def hear(self, event: object) -> None:
        """Count a closed window."""
        if isinstance(event, WindowClosed):
            self.predictions += event.predictions
            self.outcomes = event.outcomes_total

    def held(self, held: bool) -> None:
        """Whether a decision is waited for from now on."""
        now = time.monotonic()
        if self._since is not None:
            self.waiting += now - self._since
        self._since = now if held else None


def prepare(data_dir: Path) -> None:
    """An empty data directory with an approver's pinned key; Refused where somebody else's data is."""
    if data_dir.exists() and any(data_dir.iterdir()) and not (data_dir / MARK).exists():
        raise Refused("not-a-demo", f"{data_dir} holds data that is not a demonstration's; choose another with --data-dir")
    if (state := State.read(data_dir)) is not None and state.living():
        _tidemill("down", data_dir)
    shutil.rmtree(data_dir, ignore_errors=True)
    data_dir.mkdir(parents=True)
    (data_dir / MARK).touch()
    keys.generate(APPROVER, data_dir / "keys", data_dir / "trust" / GROUP)


@contextmanager
def stack(data_dir: Path, keep: bool) -> Iterator[Settings]:
    """All servers and services, ended afterwards unless they are to be kept."""
    _tidemill("up", data_dir, "--detach", environment={"TIDEMILL_TRUST_DIR": str(data_dir / "trust")})
    try:
        yield Settings.load(data_dir)
    finally:
        if not keep:
            _tidemill("down", data_dir)


@contextmanager
def approver(data_dir: Path) -> Iterator[None]:
    """A person's part: another process with its own key that signs what has passed its gates."""
    command = [sys.executable, "-m", "tidemill.cli.main", "approvals", "watch", "--data-dir", str(data_dir)]
    command += ["--key", str(data_dir / "keys" / f"{APPROVER}.pem"), "--as", APPROVER, "--group", GROUP]
    command += ["--reason", "all gates passed (demonstration)"]
    with (data_dir / "logs" / "approver.log").open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def apply(folder: Path, data_dir: Path) -> None:
    """Publish the use case's spec."""
    _tidemill("apply", data_dir, str(folder), "--author", AUTHOR, quiet=True)


def replay(session: Session, until: int, console: Console, tell: Callable[[Sent, Gate, Counts], None]) -> tuple[Clock, Sent]:
    """Run the replay, print what happens, wait until everything is predicted."""
    counts, begun = Counts(), time.monotonic()

    def hear(heard: Heard) -> None:
        counts.hear(heard.event)
        if (text := story.line(heard.event)) is not None:
            console.print(text, highlight=False)

    def told(sent: Sent, gate: Gate) -> None:
        counts.held(not gate.idle)
        tell(sent, gate, counts)

    sent = session.run(until, tell=told, hear=hear)
    _await_predictions(session, sent.events[_trigger_source(session)])
    total = time.monotonic() - begun
    counts.held(False)
    return Clock(total, total - counts.waiting), sent


def report(session: Session, clock: Clock) -> tuple[Summary, Scene]:
    """The figures of the (one) model of the use case, and what to say beside them."""
    (model,) = session.bundle.models
    return gather(session.settings, session.bundle, model, clock)


def _trigger_source(session: Session) -> str:
    (model,) = session.bundle.models.values()
    return model.trigger_source(session.bundle)


def _await_predictions(session: Session, wanted: int) -> None:
    """Return when there is a prediction for every trigger; raise when they stop coming."""
    consumer, best, since = reader(session.settings, "demo"), -1, time.monotonic()
    try:
        while (count := sum(high - low for low, high in watermarks(consumer, f"predictions.{session.stream}").values())) < wanted:
            if count > best:
                best, since = count, time.monotonic()
            elif time.monotonic() - since > PATIENCE:
                raise TidemillError(
                    f"{count:,} of {wanted:,} predictions came, and no more for {PATIENCE:.0f} s; see `tidemill status` and `logs`"
                )
            time.sleep(0.1)
    finally:
        consumer.close()


def _tidemill(command: str, data_dir: Path, *options: str, environment: dict[str, str] | None = None, quiet: bool = False) -> None:
    line = [sys.executable, "-m", "tidemill.cli.main", command, *options, "--data-dir", str(data_dir)]
    done = subprocess.run(
        line, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL if quiet else None, check=False
    )
    if done.returncode:
        raise TidemillError(f"`tidemill {command}` failed with code {done.returncode}")
