"""Which snapshots a shard's writer starts from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest

from services.ingest.adapters.log import LogReader
from services.ingest.adapters.shelf import States
from services.ingest.model import State
from services.ingest.step.snapshot import code
from tidemill.bus.snapshot import InputMark, shelf
from tidemill.settings import Settings

TOPIC = "log.small"


@dataclass
class Log:
    """A log that holds what every snapshot was made of."""

    topic: str = TOPIC

    def stands_in(self, mark: InputMark) -> bool:
        return mark.newest == "newest"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a writer that has kept its state at offset 7."""
    settings = Settings(data_dir=tmp_path)
    states = States(settings, "small", 0)
    states.put(State("small", 0, offset=7), TOPIC, "newest")
    states.close()
    return settings


def start(settings: Settings) -> int:
    """The offset at which the next life begins."""
    return States(settings, "small", 0).newest(cast(LogReader, Log())).offset


def test_a_start_goes_on_from_the_newest_snapshot(settings: Settings) -> None:
    assert start(settings) == 7


def test_a_snapshot_of_other_code_is_not_used(settings: Settings) -> None:
    kept = shelf(settings.data_dir, "ingest", "small", 0)
    (own,) = kept.whole()
    assert own.code == code()
    other = replace(own, code="sha256:" + "0" * 64, meta=own.meta | {"offset": 9}, inputs={TOPIC: InputMark(9, 9, 1, "newest")})
    kept.put(other)
    assert start(settings) == 7
    kept.put(replace(other, code=own.code))
    assert start(settings) == 9
