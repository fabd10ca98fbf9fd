"""Whose data a demonstration may replace."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill.cli.demo import demo
from tidemill.demo import run
from tidemill.errors import Refused
from tidemill.spec import ModelSpec, load
from tidemill.spec.model import Approval
from tidemill.trust.keys import KeyRing

USECASE = Path(__file__).parents[3] / "usecases" / "flights"
BUNDLE = load(USECASE)


def test_it_refuses_data_that_is_not_a_demonstrations(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    with pytest.raises(Refused, match="choose another with --data-dir"):
        run.prepare(tmp_path, BUNDLE)
    assert [one.name for one in tmp_path.iterdir()] == ["kafka"]


def test_it_replaces_what_an_earlier_one_left(tmp_path: Path) -> None:
    home = tmp_path / "data"
    run.prepare(home, BUNDLE)
    (home / "left-behind").touch()
    first = (home / "trust" / "ops-review" / f"{run.APPROVER}.pub").read_bytes()
    run.prepare(home, BUNDLE)
    assert not (home / "left-behind").exists()
    assert (home / "trust" / "ops-review" / f"{run.APPROVER}.pub").read_bytes() != first


def test_every_group_has_as_many_approvers_as_its_strictest_model_requires(tmp_path: Path) -> None:
    (model,) = BUNDLE.models.values()

    def asking(group: str, required: int) -> ModelSpec:
        return model.model_copy(update={"approval": Approval(approvers=[group], required=required)})

    models = {"a": asking("risk", 1), "b": asking("risk", 2), "c": asking("ops", 1)}
    run.prepare(tmp_path, BUNDLE.model_copy(update={"models": models}))
    ring = KeyRing.load(tmp_path / "trust")
    assert {group: sorted(names) for group, names in ring.groups.items()} == {
        "ops": ["demo-approver"],
        "risk": ["demo-approver", "demo-approver-2"],
    }


def test_it_refuses_what_its_report_could_not_count(tmp_path: Path) -> None:
    several = BUNDLE.model_copy(update={"stream": BUNDLE.stream.model_copy(update={"shards": 2})})
    for bundle, why in ((several, "one shard"), (BUNDLE.model_copy(update={"models": {}}), "has none")):
        with pytest.raises(Refused, match=why):
            run.prepare(tmp_path / "data", bundle)
        assert not (tmp_path / "data").exists()


def test_a_time_that_is_none_is_refused_before_an_earlier_ones_data_goes(tmp_path: Path) -> None:
    run.prepare(tmp_path / "data", BUNDLE)
    (tmp_path / "data" / "left-behind").touch()
    with pytest.raises(Refused, match="write 2013-01-01"):
        demo(USECASE, until="yesterday", data_dir=tmp_path / "data")
    assert (tmp_path / "data" / "left-behind").exists()
