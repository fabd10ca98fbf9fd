"""Versions, aliases and which version served where."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry import handlers
from services.registry.handlers import Ports
from services.registry.model import Switch, served_at_position, served_at_time
from tidemill.bus.control import Parked
from tidemill.events.governance import ApprovalDecided, ApprovalRequested
from tidemill.events.ingest import SwitchAppended
from tidemill.events.registry_facts import AliasChanged, VersionRegistered
from tidemill.events.training import RunCompleted


@dataclass
class Memory:
    """All of the registry's ports, in memory."""

    registered: list[VersionRegistered] = field(default_factory=list)
    pointed: dict[tuple[str, str], int] = field(default_factory=dict)
    switched: list[Switch] = field(default_factory=list)

    def of_run(self, run: str) -> int | None:
        return next((one.version for one in self.registered if one.run == run), None)

    def next_number(self, model: str) -> int:
        return 1 + max((one.version for one in self.registered if one.model == model), default=0)

    def exists(self, model: str, version: int) -> bool:
        return any((one.model, one.version) == (model, version) for one in self.registered)

    def add(self, what: Any) -> None:
        (self.switched if isinstance(what, Switch) else self.registered).append(what)

    def get(self, model: str, alias: str) -> int | None:
        return self.pointed.get((model, alias))

    def set(self, model: str, alias: str, version: int | None) -> None:
        self.pointed.pop((model, alias), None)
        if version is not None:
            self.pointed[model, alias] = version

    @property
    def ports(self) -> Ports:
        return Ports(self, self, self)


def completed(run: str = "r1", model: str = "m") -> RunCompleted:
    return RunCompleted(
        run=run, stream="s", model=model, cause_kind="manual", cause_id="c", requester="ann", artifact="sha256:a", report="sha256:b",
        dataset="sha256:d", code_digest="sha256:c", spec_digest="sha256:e", seed=7, parameters={"eta": "0.1"}, rows=10, from_position=0,
        to_position=9, metrics={"auc": 0.9}, baseline={}, champion={}, effective_at=5, seconds=1.0,
    )  # fmt: skip


def switched(version: int, offset: int, rollout: int = 1, partition: int = 0) -> SwitchAppended:
    return SwitchAppended(
        stream="s", model="m", version=version, artifact="sha256:a", rollout=rollout, action="promote", order="o", approval="p",
        run="r1", partition=partition, offset=offset, effective_at=offset * 10,
    )  # fmt: skip


def requested(version: int) -> ApprovalRequested:
    return ApprovalRequested(
        approval="p", stream="s", model="m", version=version, run="r1", artifact="sha256:a", report="sha256:b", action="promote",
        group="g", required=1, requester="x", author="y", rollout=1, gates=[], statement="{}", requested_at=0, deadline=1, effective_at=5,
    )  # fmt: skip


def decided(version: int, verdict: Any) -> ApprovalDecided:
    return ApprovalDecided(
        approval="p",
        stream="s",
        model="m",
        version=version,
        run="r1",
        verdict=verdict,
        approvers=[],
        reason="",
        envelopes=[],
        decided_at=0,
    )


def moves(said: list[AliasChanged]) -> list[tuple[str, int | None, int | None]]:
    return [(one.alias, one.previous, one.version) for one in said]


def test_versions_of_a_model_are_numbered_from_one() -> None:
    memory = Memory()
    said = [handlers.on_run_completed(completed(run), memory.ports)[0] for run in ("r1", "r2")]
    other = handlers.on_run_completed(completed("r3", "n"), memory.ports)[0]
    assert [one.version for one in (*said, other)] == [1, 2, 1]
    assert said[0].metrics == {"auc": 0.9}


def test_a_run_told_twice_is_one_version() -> None:
    memory = Memory()
    handlers.on_run_completed(completed(), memory.ports)
    assert handlers.on_run_completed(completed(), memory.ports) == []


def test_a_version_is_candidate_while_people_decide_and_champion_when_it_serves() -> None:
    memory = Memory()
    handlers.on_run_completed(completed(), memory.ports)
    assert moves(handlers.on_approval_requested(requested(1), memory.ports)) == [("candidate", None, 1)]
    assert handlers.on_approval_decided(decided(1, "approved"), memory.ports) == []
    assert moves(handlers.on_switch_appended(switched(1, 40), memory.ports)) == [("champion", None, 1), ("candidate", 1, None)]


def test_a_rejected_version_is_no_candidate_any_more() -> None:
    memory = Memory()
    handlers.on_run_completed(completed(), memory.ports)
    handlers.on_approval_requested(requested(1), memory.ports)
    assert moves(handlers.on_approval_decided(decided(1, "rejected"), memory.ports)) == [("candidate", 1, None)]


def test_a_second_shards_switch_moves_no_alias_again() -> None:
    memory = Memory()
    handlers.on_run_completed(completed(), memory.ports)
    handlers.on_switch_appended(switched(1, 40), memory.ports)
    assert handlers.on_switch_appended(switched(1, 41, partition=1), memory.ports) == []
    assert len(memory.switched) == 2


def test_a_switch_of_an_unknown_version_waits_for_it() -> None:
    with pytest.raises(Parked, match="m/1"):
        handlers.on_switch_appended(switched(1, 40), Memory().ports)


@given(st.lists(st.integers(0, 1000), unique=True, max_size=8), st.integers(-1, 1001))
def test_the_version_at_a_position_is_that_of_the_last_switch_before_it(offsets: list[int], position: int) -> None:
    switches = [
        Switch("s", "m", number, number, 0, offset, offset * 10, "", "") for number, offset in enumerate(sorted(offsets), 1)
    ]
    expected = sum(offset <= position for offset in offsets)
    found = served_at_position(switches, 0, position)
    assert (found.version if found else 0) == expected
    assert served_at_time(switches, position * 10) == found
