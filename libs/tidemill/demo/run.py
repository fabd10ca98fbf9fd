"""The demonstration, step by step: a stack of its own, a spec, an approver, a year of events, a report."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
from tidemill.spec import Bundle
from tidemill.stack.state import State
from tidemill.trust import keys

MARK = "demo"
"""A file that says whose data directory it is: a demonstration replaces an earlier one's data, and no other."""
APPROVER = "demo-approver"
PATIENCE = 120.0
"""Seconds without a new prediction after which something is stuck."""


@dataclass
class Counts:
    """What the loop has said so far."""

    predictions: int = 0
    labelled: dict[tuple[str, int], int] = field(default_factory=dict)
    """By model and shard, the outcomes so far."""
    waiting: float = 0.0
    """Seconds in which a decision was waited for."""
    _since: float | None = field(default=None, repr=False)

    @property
    def outcomes(self) -> int:
        """Labels that came."""
        return sum(self.labelled.values())

    def hear(self, event: object) -> None:
        """Count a closed window."""
        if isinstance(event, WindowClosed):
            self.predictions += event.predictions
            self.labelled[event.model, event.partition] = event.outcomes_total

    def held(self, held: bool) -> None:
        """Whether a decision is waited for from now on."""
        now = time.monotonic()
        if self._since is not None:
            self.waiting += now - self._since
        self._since = now if held else None


def approvers(bundle: Bundle) -> dict[str, list[str]]:
    """By group that decides about some model, as many names as one decision needs."""
    required: dict[str, int] = {}
    for model in bundle.models.values():
        for group in model.approval.approvers:
            required[group] = max(required.get(group, 0), model.approval.required)
    return {group: [APPROVER, *(f"{APPROVER}-{at}" for at in range(2, count + 1))] for group, count in required.items()}


def prepare(data_dir: Path, bundle: Bundle) -> None:
    """An empty data directory with the approvers' pinned keys; Refused where somebody else's data is, or what no report could count."""
    if not bundle.models:
        raise Refused("no-model", "a demonstration is of a model's life, and the use case has none below models/")
    if bundle.stream.shards > 1:
        raise Refused(
            "several-shards", "a demonstration's report reads one shard; `tidemill up`, `apply` and `feed` run any number"
        )
    if data_dir.exists() and any(data_dir.iterdir()) and not (data_dir / MARK).exists():
        raise Refused("not-a-demo", f"{data_dir} holds data that is not a demonstration's; choose another with --data-dir")
    if (state := State.read(data_dir)) is not None and state.living():
        _tidemill("down", data_dir)
    shutil.rmtree(data_dir, ignore_errors=True)
    data_dir.mkdir(parents=True)
    (data_dir / MARK).touch()
    for group, names in approvers(bundle).items():
        for name in names:
            keys.generate(name, data_dir / "keys" / group, data_dir / "trust" / group)


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
def deciding(data_dir: Path, bundle: Bundle) -> Iterator[None]:
    """People's part: other processes, each with its own key, that sign what has passed its gates."""
    with ExitStack() as people:
        for group, names in approvers(bundle).items():
            for place, name in enumerate(names, 1):
                people.enter_context(_approver(data_dir, group, name, place))
        yield


@contextmanager
def _approver(data_dir: Path, group: str, name: str, place: int) -> Iterator[None]:
    command = [sys.executable, "-m", "tidemill.cli.main", "approvals", "watch", "--data-dir", str(data_dir)]
    command += ["--key", str(data_dir / "keys" / group / f"{name}.pem"), "--as", name, "--group", group]
    command += ["--place", str(place)]  # a further signer's decision about what the first may decide alone comes too late
    command += ["--reason", "all gates passed (demonstration)"]
    with (data_dir / "logs" / "approver.log").open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def apply(folder: Path, data_dir: Path, bundle: Bundle) -> None:
    """Publish the use case's spec in its owner's name."""
    _tidemill("apply", data_dir, str(folder), "--author", bundle.stream.owner, quiet=True)


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
    models = session.bundle.models.values()
    _await_predictions(session, sum(sent.events[model.trigger_source(session.bundle)] for model in models))
    total = time.monotonic() - begun
    counts.held(False)
    return Clock(total, total - counts.waiting), sent


def report(session: Session, clock: Clock) -> list[tuple[Summary, Scene]]:
    """The figures of each model of the use case, and what to say beside them."""
    return [gather(session.settings, session.bundle, model, clock) for model in session.bundle.models]


def _await_predictions(session: Session, wanted: int) -> None:
    """Return when there is every model's prediction for every trigger of its own; raise when they stop coming."""
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
