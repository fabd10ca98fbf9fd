"""The control plane killed at each of its steps, with the real stream around it: one version, one switch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.e2e import chaos_audit as audit
from tests.e2e.chaos_site import APPROVER, DAY, FLIGHTS, GROUP, MODEL, Site, interrupt, tell, until
from tidemill.bus.control_client import Heard, read_all
from tidemill.events import log_header
from tidemill.events.base import Event
from tidemill.events.governance import ApprovalDecided, ApprovalRequested, RolloutOrdered
from tidemill.events.ingest import SwitchAppended, SwitchRefused
from tidemill.events.registry import VersionRegistered
from tidemill.events.training import DatasetBuilt, RunCompleted, RunFailed, RunRequested, RunStarted
from tidemill.feed.session import Session
from tidemill.settings import Settings

CONTROL_PLANE = ("training", "registry", "governance")
STREAM = "flights"
STEPS: tuple[type[Event], ...] = (
    RunRequested,
    RunStarted,
    RunCompleted,
    VersionRegistered,
    ApprovalRequested,
    ApprovalDecided,
    RolloutOrdered,
)
"""When one of these is first seen, all three are killed."""
FEW = (VersionRegistered, ApprovalDecided)
"""The small form of it."""
DAYS = 10


@pytest.mark.parametrize("steps", [pytest.param(STEPS, marks=pytest.mark.chaos, id="every"), pytest.param(FEW, id="few")])
def test_whatever_dies_when_a_step_is_first_seen_there_is_one_version_and_one_switch(
    site: Site, steps: tuple[type[Event], ...]
) -> None:
    folder, seen = sooner(site.home / "flights"), list[type[Event]]()

    def hear(heard: Heard) -> None:
        kind = type(heard.event)
        if kind in seen:
            return
        seen.append(kind)
        for name in CONTROL_PLANE if kind in steps else ("training",) if kind is DatasetBuilt else ():
            site.kill(name)  # at DatasetBuilt, that is in mid-fit
        tell(f"first {kind.__name__}")

    with site.up() as settings:
        site.tidemill("apply", str(folder), "--author", "bob")
        session = Session(settings, folder, [*STEPS, DatasetBuilt])
        with approver(site):
            session.run(session.timeline.first + DAYS * DAY, hear=hear)
            until(lambda: all_at_rest(site), "that all services are ready and have heard everything")
        session.close()
        assert {*STEPS, DatasetBuilt} <= set(seen)
        kills = dict.fromkeys(CONTROL_PLANE, len(steps)) | {"training": len(steps) + 1}
        assert {name: len(pids) for name, pids in site.killed.items()} == kills
        one_of_each(settings)
        one_switch_in_the_log(settings)


def sooner(folder: Path) -> Path:
    """The use case with a first model after a week, quickly fitted, and gates that so little data passes."""
    shutil.copytree(FLIGHTS, folder)
    file = folder / "models" / f"{MODEL}.yaml"
    model = yaml.safe_load(file.read_text())
    model["retrain"].pop(True)  # which is how YAML reads `on`
    model["retrain"]["on"] = [{"labels": 6_000}]
    model["training"]["candidates"]["xgboost"] = {"trials": 2, "max_trees": 60, "early_stopping": 10}
    model["training"]["split"] = {"test": "newest 10%", "gap": "1d"}
    model["gates"] = {"sane": {"metric": "log_loss", "on": "test", "below": 0.7}}
    file.write_text(yaml.safe_dump(model, sort_keys=False))
    return folder


@contextmanager
def approver(site: Site) -> Iterator[None]:
    """A person's part, played by another process with its own key."""
    command = [sys.executable, "-m", "tidemill.cli.main", "approvals", "watch", "--data-dir", str(site.data)]
    command += ["--key", str(site.home / "private" / f"{APPROVER}.pem"), "--as", APPROVER, "--group", GROUP, "--reason", "chaos"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        interrupt(process)


def all_at_rest(site: Site) -> bool:
    said = site.status()
    return len(said) == 7 and all((one["state"], one["lag"]) == ("ready", 0) for one in said.values())


def one_of_each(settings: Settings) -> None:
    """Each fact is there once; what a killed relay said again bears the same id."""
    for kind in (RunRequested, DatasetBuilt, RunCompleted, VersionRegistered, ApprovalRequested, ApprovalDecided, RolloutOrdered):
        assert len({heard.envelope.id for heard in read_all(settings, [kind])}) == 1, kind.__name__
    (switched,) = {heard.envelope.id: heard.event for heard in read_all(settings, [SwitchAppended])}.values()
    assert isinstance(switched, SwitchAppended)
    assert (switched.version, switched.rollout) == (1, 1)
    assert read_all(settings, [RunFailed, SwitchRefused]) == []
    assert len({heard.envelope.id for heard in read_all(settings, [RunStarted])}) >= 2, "it was begun again"


def one_switch_in_the_log(settings: Settings) -> None:
    rows, _ = audit.valid(audit.messages_of(settings, f"log.{STREAM}"))
    assert np.count_nonzero(rows["kind"] == log_header.MODEL_SWITCHED) == 1
