"""Whose data a demonstration may replace."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill.demo import run
from tidemill.errors import Refused


def test_it_refuses_data_that_is_not_a_demonstrations(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    with pytest.raises(Refused, match="choose another with --data-dir"):
        run.prepare(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["kafka"]


def test_it_replaces_what_an_earlier_one_left(tmp_path: Path) -> None:
    home = tmp_path / "data"
    run.prepare(home)
    (home / "left-behind").touch()
    first = (home / "trust" / run.GROUP / f"{run.APPROVER}.pub").read_bytes()
    run.prepare(home)
    assert not (home / "left-behind").exists()
    assert (home / "trust" / run.GROUP / f"{run.APPROVER}.pub").read_bytes() != first
