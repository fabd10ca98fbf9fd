"""Two demonstrations, the second with one core for everything: the same switches at the same places, the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import UNTIL
from tests.e2e.demo_site import Demo
from tidemill.bus.consumer import read_to_end
from tidemill.bus.control_client import read_all
from tidemill.demo.summary import Summary
from tidemill.events import wire
from tidemill.events.ingest import SwitchAppended
from tidemill.events.log import ModelSwitched
from tidemill.events.schema_registry import Registry
from tidemill.settings import Settings

FOLDED = ("features.flights", "predictions.flights", "shadow-predictions.flights")
"""Topics whose every byte follows from the log, but for the signatures in the copies of its control records."""


def test_the_first_month_is_the_same_on_one_core(demo: Demo) -> None:
    with demonstration("--until", UNTIL, cores=1) as other:
        assert told(other) == told(demo)


@pytest.mark.replay
def test_the_whole_year_is_the_same_on_one_core() -> None:
    found = []
    for cores in (None, 1):
        with demonstration(cores=cores) as done:
            found.append(told(done))
            shows_the_year(figures(done))
            sys.stderr.write(f"{json.dumps(found[-1])}\n")
    assert found[0] == found[1]


def test_the_first_month_adds_up(demo: Demo) -> None:
    month = figures(demo)
    assert month.discrepancies() == []
    assert month.events.log == sum(month.events.raw.values())
    assert all(one.verified and one.approved_by for one in month.models)
    assert len(month.models) == 1


def figures(demo: Demo) -> Summary:
    """What the demonstration wrote down."""
    return Summary.model_validate_json((demo.data / "demo-summary.json").read_text())


def shows_the_year(found: Summary) -> None:
    """What a year of flights must come to."""
    assert found.discrepancies() == []
    assert found.events.raw == {"departures": 328_521, "arrivals": 327_346, "weather": 26_115}
    assert (found.events.log, found.events.dead_letters, found.inversions) == (681_982, 0, 0)
    assert found.triggers == found.vectors == found.predictions == 328_521
    assert (found.outcomes, found.unlabelled) == (327_346, 1_175)
    assert len(found.models) >= 3
    assert any(one.cause.startswith("alert") for one in found.models)
    assert found.year.champion.logloss is not None
    assert found.year.first.logloss is not None
    assert found.year.champion.logloss <= 0.94 * found.year.first.logloss


@contextmanager
def demonstration(*options: str, cores: int | None = None) -> Iterator[Demo]:
    """A demonstration of its own, whose stack is left running, with all its processes on so many cores."""
    root = Path(tempfile.mkdtemp(prefix="tidemill-demo-"))
    root.chmod(0o755)  # PostgreSQL may run as a user of its own
    command = [sys.executable, "-m", "tidemill.cli.main", "demo", "--headless", "--keep", "--output", "json", *options]
    some = sorted(os.sched_getaffinity(0))[:cores]
    try:
        subprocess.run([*command, "--data-dir", str(root / "data")], check=True, preexec_fn=lambda: os.sched_setaffinity(0, some))
        yield Demo(root / "data")
    finally:
        Demo(root / "data").tidemill("down")
        shutil.rmtree(root, ignore_errors=True)


def told(demo: Demo) -> dict[str, Any]:
    """Which version serves from where in the log, and a digest of each topic."""
    demo.status()  # its servers run
    settings = Settings.load(demo.data)
    switches = [heard.event for heard in read_all(settings, [SwitchAppended])]
    return {
        "switches": [(one.version, one.partition, one.offset) for one in switches],  # type: ignore[attr-defined]
        "topics": {topic: digest_of(settings, topic) for topic in FOLDED},
    }


def digest_of(settings: Settings, topic: str) -> str:
    """How many records, and a digest of their keys and values; a switch is signed anew by each demonstration's approver."""
    switch, count, digest = Registry(settings.schema_registry).id_of(ModelSwitched), 0, hashlib.sha256()
    for batch in read_to_end(settings, topic):
        for message in batch:
            key, value = message.key() or b"", message.value() or b""
            if wire.schema_id(value) != switch:
                digest.update(b"%d %d " % (len(key), len(value)) + key + value)
                count += 1
    return f"{count} {digest.hexdigest()}"
