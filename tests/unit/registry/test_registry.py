"""Versions, aliases and which version served where."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry import handlers
from services.registry.handlers import Ports
from services.registry.model import Request, Switch, served_at_position, served_at_time
from tidemill.bus.control import Parked
from tidemill.errors import Rejected
from tidemill.events.governance import ApprovalDecided, ApprovalRequested
from tidemill.events.ingest import SwitchAppended, SwitchRefused
from tidemill.events.registry import AliasChanged, VersionRegistered
from tidemill.events.training import RunCompleted
from tidemill.trust import dsse, keys
from tidemill.trust.statement import Decision, Statement


@dataclass
class Memory:
    """All of the registry's ports, in memory."""

    keys: keys.KeyRing = field(default_factory=lambda: keys.KeyRing({}))
    asked: list[Request] = field(default_factory=list)
    registered: list[VersionRegistered] = field(default_factory=list)
    pointed: dict[tuple[str, str, str], int] = field(default_factory=dict)
    switched: list[Switch] = field(default_factory=list)

    def of_run(self, run: str) -> int | None:
        return next((one.version for one in self.registered if one.run == run), None)

    def next_number(self, stream: str, model: str) -> int:
        return 1 + max((one.version for one in self.registered if (one.stream, one.model) == (stream, model)), default=0)

    def exists(self, stream: str, model: str, version: int) -> bool:
        return any((one.stream, one.model, one.version) == (stream, model, version) for one in self.registered)

    def add(self, what: Any) -> None:
        (self.switched if isinstance(what, Switch) else self.registered).append(what)

    def get(self, stream: str, model: str, alias: str) -> int | None:
        return self.pointed.get((stream, model, alias))

    def set(self, stream: str, model: str, alias: str, version: int | None) -> None:
        self.pointed.pop((stream, model, alias), None)
        if version is not None:
            self.pointed[stream, model, alias] = version

    def newest_rollout(self, stream: str, model: str) -> int:
        return max((one.rollout for one in self.switched if (one.stream, one.model) == (stream, model)), default=0)

    @property
    def state(self) -> tuple[str, str]:
        """What has become of `requested(1)`, and why."""
        return self.asked[0].state, self.asked[0].reason

    @property
    def ports(self) -> Ports:
        return Ports(self, self, self, _Requests(self), self.keys)


@dataclass
class _Requests:
    memory: Memory

    def under(self, approval: str) -> dict[int, Request]:
        return {number: one for number, one in enumerate(self.memory.asked) if one.said.approval == approval}

    def add(self, request: ApprovalRequested) -> None:
        self.memory.asked.append(Request(request))

    def put(self, number: int, request: Request) -> None:
        self.memory.asked[number] = request


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("trust")
    for name in ("ann", "x", "y"):
        keys.generate(name, made / "private", made / "pinned" / "g")
    keys.generate("mallory", made / "private", made / "elsewhere")
    return made


@pytest.fixture
def memory(root: Path) -> Memory:
    """One version, of which people were asked."""
    made = Memory(keys.KeyRing.load(root / "pinned"))
    handlers.on_run_completed(completed(), made.ports)
    handlers.on_approval_requested(requested(1), made.ports)
    return made


def completed(run: str = "r1", model: str = "m", stream: str = "s") -> RunCompleted:
    return RunCompleted(
        run=run, stream=stream, model=model, cause_kind="manual", cause_id="c", requester="ann", artifact="sha256:a", report="sha256:b",
        dataset="sha256:d", code_digest="sha256:c", spec_digest="sha256:e", seed=7, parameters={"eta": "0.1"}, rows=10, from_position=0,
        to_position=9, metrics={"auc": 0.9}, baseline={}, champion={}, effective_at=5, seconds=1.0,
    )  # fmt: skip


def switched(version: int, offset: int, rollout: int = 1, partition: int = 0, time: int | None = None) -> SwitchAppended:
    return SwitchAppended(
        stream="s", model="m", version=version, artifact="sha256:a", rollout=rollout, action="promote", order="o", approval="p",
        run="r1", partition=partition, offset=offset, effective_at=5, stream_time=time,
    )  # fmt: skip


def refused(**over: Any) -> SwitchRefused:
    said = {
        "stream": "s",
        "model": "m",
        "version": 1,
        "rollout": 1,
        "order": "o",
        "approval": "p",
        "run": "r1",
        "reason": "expired",
    }
    return SwitchRefused.model_validate(said | over)


def statement(**over: Any) -> Statement:
    """What is asked about version 1; `over` changes it."""
    decision = {
        "stream": "s", "model": "m", "version": 1, "report": "sha256:b", "action": "promote", "rollout": 1, "effective_at": 5, "approval": "p",
        "run": "r1", "requester": "x", "author": "y", "expires": 10,
    }  # fmt: skip
    return Statement.of("sha256:a", Decision.model_validate(decision | over))


def requested(version: int, **asked: Any) -> ApprovalRequested:
    """A request whose statement says some things otherwise."""
    return ApprovalRequested(
        approval="p", stream="s", model="m", version=version, run="r1", artifact="sha256:a", report="sha256:b", action="promote", group="g",
        required=1, requester="x", author="y", rollout=1, gates=[], statement=statement(version=version, **asked).text(), requested_at=0,
        deadline=1, effective_at=5,
    )  # fmt: skip


def decided(root: Path, verdict: Any, signer: str = "ann", signed: Any = None, **over: Any) -> ApprovalDecided:
    """What became of `requested(1)`; `over` changes the statement that `signer` signs, `signed` its verdict."""
    said = statement(**over).decided(signed or ("approve" if verdict == "approved" else "reject"), "because")
    envelope = dsse.sign(said.text().encode(), keys.load_private(root / "private" / f"{signer}.pem"), signer)
    return ApprovalDecided(
        approval="p", stream="s", model="m", version=1, run="r1", verdict=verdict, approvers=[signer], reason="because",
        envelopes=[] if verdict == "lapsed" else [envelope], decided_at=5,
    )  # fmt: skip


def moves(said: list[AliasChanged]) -> list[tuple[str, int | None, int | None]]:
    return [(one.alias, one.previous, one.version) for one in said]


def test_versions_of_a_model_are_numbered_from_one() -> None:
    memory = Memory()
    said = [handlers.on_run_completed(completed(run), memory.ports)[0] for run in ("r1", "r2")]
    other = handlers.on_run_completed(completed("r3", "n"), memory.ports)[0]
    assert [one.version for one in (*said, other)] == [1, 2, 1]
    assert said[0].metrics == {"auc": 0.9}


def test_models_of_one_name_in_two_streams_have_nothing_in_common(memory: Memory) -> None:
    said = handlers.on_run_completed(completed("r2", stream="t"), memory.ports)
    assert [one.version for one in said] == [1]
    handlers.on_approval_requested(requested(1).model_copy(update={"stream": "t", "approval": "q"}), memory.ports)
    assert memory.pointed == {("s", "m", "candidate"): 1, ("t", "m", "candidate"): 1}


def test_a_run_told_twice_is_one_version() -> None:
    memory = Memory()
    handlers.on_run_completed(completed(), memory.ports)
    assert handlers.on_run_completed(completed(), memory.ports) == []


def test_a_version_is_candidate_while_people_decide_and_champion_when_it_serves(root: Path) -> None:
    memory = Memory(keys.KeyRing.load(root / "pinned"))
    handlers.on_run_completed(completed(), memory.ports)
    assert moves(handlers.on_approval_requested(requested(1), memory.ports)) == [("candidate", None, 1)]
    assert handlers.on_approval_decided(decided(root, "approved"), memory.ports) == []
    assert moves(handlers.on_switch_appended(switched(1, 40), memory.ports)) == [("champion", None, 1), ("candidate", 1, None)]


@pytest.mark.parametrize("verdict", ["rejected", "lapsed"])
def test_a_version_that_was_not_approved_is_no_candidate_any_more(memory: Memory, root: Path, verdict: str) -> None:
    assert moves(handlers.on_approval_decided(decided(root, verdict), memory.ports)) == [("candidate", 1, None)]
    assert (memory.state, handlers.on_switch_refused(refused(), memory.ports)) == ((verdict, "because"), [])


def test_a_version_whose_switch_was_refused_is_no_candidate_any_more_and_says_why(memory: Memory, root: Path) -> None:
    handlers.on_approval_decided(decided(root, "approved"), memory.ports)
    (said,) = handlers.on_switch_refused(refused(), memory.ports)
    assert (said.alias, said.previous, said.version, said.rollout) == ("candidate", 1, None, 1)
    assert memory.state == ("refused", "expired")
    assert handlers.on_switch_refused(refused(reason="stale-rollout"), memory.ports) == []
    assert handlers.on_approval_decided(decided(root, "approved"), memory.ports) == []
    assert memory.state == ("refused", "expired")


def test_a_refusal_takes_no_newer_versions_alias(memory: Memory, root: Path) -> None:
    handlers.on_approval_decided(decided(root, "approved"), memory.ports)
    handlers.on_run_completed(completed("r2"), memory.ports)
    handlers.on_approval_requested(requested(2).model_copy(update={"approval": "q"}), memory.ports)
    assert handlers.on_switch_refused(refused(), memory.ports) == []
    assert memory.pointed == {("s", "m", "candidate"): 2}


@pytest.mark.parametrize("refused_first", [True, False])
def test_a_version_that_one_shard_refused_and_another_appended_serves(memory: Memory, root: Path, refused_first: bool) -> None:
    handlers.on_approval_decided(decided(root, "approved"), memory.ports)
    for turn in (refused_first, not refused_first):
        if turn:
            handlers.on_switch_refused(refused(), memory.ports)
        else:
            handlers.on_switch_appended(switched(1, 40, partition=1), memory.ports)
    assert (memory.pointed, memory.state) == ({("s", "m", "champion"): 1}, ("served", ""))


@pytest.mark.parametrize("over", [{"stream": "t"}, {"version": 2}, {"rollout": 2}, {"run": "r2"}])
def test_the_refusal_of_an_order_that_nobody_approved_moves_no_alias(memory: Memory, root: Path, over: dict[str, Any]) -> None:
    handlers.on_approval_decided(decided(root, "approved"), memory.ports)
    assert handlers.on_switch_refused(refused(**over), memory.ports) == []
    assert (memory.pointed, memory.state[0]) == ({("s", "m", "candidate"): 1}, "approved")


def test_a_refusal_waits_for_the_request_and_for_what_people_decide(memory: Memory, root: Path) -> None:
    with pytest.raises(Parked, match="request p"):
        handlers.on_switch_refused(refused(), Memory().ports)
    with pytest.raises(Parked, match="decision about p"):
        handlers.on_switch_refused(refused(), memory.ports)


def test_a_second_shards_switch_moves_no_alias_again(memory: Memory, root: Path) -> None:
    handlers.on_approval_decided(decided(root, "approved"), memory.ports)
    handlers.on_switch_appended(switched(1, 40), memory.ports)
    assert handlers.on_switch_appended(switched(1, 41, partition=1), memory.ports) == []
    assert len(memory.switched) == 2


@pytest.mark.parametrize(
    ("over", "reason"),
    [
        ({"signer": "mallory"}, "unknown-approver"),
        ({"signer": "y"}, "self-signed"),
        ({"signer": "y", "author": "somebody-else"}, "self-signed"),
        ({"signer": "x", "requester": "somebody-else"}, "self-signed"),
        ({"rollout": 2}, "other-subject"),
        ({"expires": 4}, "expired"),
        ({"expires": 11}, "other-statement"),
        ({"author": "nobody"}, "other-statement"),
        ({"signed": "reject"}, "not-approved"),
    ],
)
def test_an_approval_that_nobody_signed_so_moves_no_alias(memory: Memory, root: Path, over: dict[str, Any], reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        handlers.on_approval_decided(decided(root, "approved", **over), memory.ports)
    with pytest.raises(Parked, match="approval p"):
        handlers.on_switch_appended(switched(1, 40), memory.ports)
    assert memory.pointed == {("s", "m", "candidate"): 1}


def test_a_rejection_that_nobody_signed_moves_no_alias(memory: Memory, root: Path) -> None:
    with pytest.raises(Rejected, match="not-rejected"):
        handlers.on_approval_decided(decided(root, "rejected", signed="approve"), memory.ports)
    with pytest.raises(Rejected, match="not-rejected"):
        handlers.on_approval_decided(decided(root, "rejected").model_copy(update={"envelopes": []}), memory.ports)
    assert memory.pointed == {("s", "m", "candidate"): 1}


def test_an_approval_of_one_version_makes_no_other_champion(memory: Memory, root: Path) -> None:
    handlers.on_run_completed(completed("r2"), memory.ports)
    handlers.on_approval_decided(decided(root, "approved"), memory.ports)
    with pytest.raises(Rejected, match="other-subject"):
        handlers.on_switch_appended(switched(2, 40), memory.ports)


@pytest.mark.parametrize("first", [0, 1])
def test_a_forged_request_under_the_id_of_a_genuine_one_hides_it_from_no_verdict(root: Path, first: int) -> None:
    memory = Memory(keys.KeyRing.load(root / "pinned"))
    for run in ("r1", "r2"):
        handlers.on_run_completed(completed(run), memory.ports)
    both = [requested(1), requested(2)]
    for request in (both[first], both[1 - first]):
        handlers.on_approval_requested(request, memory.ports)
    handlers.on_approval_decided(decided(root, "approved"), memory.ports)
    assert moves(handlers.on_switch_appended(switched(1, 40), memory.ports))[0] == ("champion", None, 1)
    with pytest.raises(Rejected, match="other-subject"):
        handlers.on_switch_appended(switched(2, 41), memory.ports)


@pytest.mark.parametrize("softer", [{"required": 1}, {"group": "h"}, {"author": "nobody"}])
def test_a_later_request_under_the_same_id_softens_no_terms(root: Path, softer: dict[str, Any]) -> None:
    memory = Memory(keys.KeyRing.load(root / "pinned"))
    handlers.on_run_completed(completed(), memory.ports)
    asked = requested(1).model_copy(update={"required": 2})
    for _ in range(2):
        handlers.on_approval_requested(asked, memory.ports)
    with pytest.raises(Rejected, match="other-terms"):
        handlers.on_approval_requested(asked.model_copy(update=softer), memory.ports)
    assert memory.asked == [Request(asked)]
    with pytest.raises(Rejected, match="too-few-approvers"):
        handlers.on_approval_decided(decided(root, "approved"), memory.ports)


@pytest.mark.parametrize("terms", [{"required": 0}, {"required": 9}, {"group": "h"}, {"author": "ann"}, {"requester": "ann"}])
def test_a_forged_request_that_comes_first_changes_no_terms_of_the_genuine_one(root: Path, terms: dict[str, Any]) -> None:
    """It can say all but the statement, which names a moment that nobody knew."""
    memory = Memory(keys.KeyRing.load(root / "pinned"))
    handlers.on_run_completed(completed(), memory.ports)
    for request in (requested(1, expires=9).model_copy(update=terms), requested(1)):
        handlers.on_approval_requested(request, memory.ports)
    with pytest.raises(Rejected, match="too-few-approvers"):
        handlers.on_approval_decided(decided(root, "approved").model_copy(update={"envelopes": []}), memory.ports)
    handlers.on_approval_decided(decided(root, "approved"), memory.ports)
    assert [one.state for one in memory.asked] == ["open", "approved"]
    assert moves(handlers.on_switch_refused(refused(), memory.ports)) == [("candidate", 1, None)]


def test_a_request_that_asks_nothing_is_no_request(root: Path) -> None:
    memory = Memory(keys.KeyRing.load(root / "pinned"))
    handlers.on_run_completed(completed(), memory.ports)
    with pytest.raises(Rejected, match="bad-statement"):
        handlers.on_approval_requested(requested(1).model_copy(update={"statement": "{}"}), memory.ports)


@pytest.mark.parametrize("over", [{"rollout": 7}, {"run": "r0"}, {"effective_at": 6}, {"action": "revoke"}])
def test_a_switch_other_than_the_one_that_was_approved_is_no_history(memory: Memory, root: Path, over: dict[str, Any]) -> None:
    handlers.on_approval_decided(decided(root, "approved"), memory.ports)
    with pytest.raises(Rejected, match="other-subject"):
        handlers.on_switch_appended(switched(1, 40).model_copy(update=over), memory.ports)
    assert memory.switched == []


def test_an_older_rollout_that_another_shard_is_late_with_moves_no_alias_back(memory: Memory, root: Path) -> None:
    handlers.on_approval_decided(decided(root, "approved"), memory.ports)
    memory.add(replace(switch(), rollout=2))
    memory.pointed["s", "m", "champion"] = 2
    assert handlers.on_switch_appended(switched(1, 40, partition=1), memory.ports) == []
    assert (len(memory.switched), memory.pointed["s", "m", "champion"]) == (2, 2)


def switch() -> Switch:
    return Switch("s", "m", 2, 1, 0, 10, 5, 5, "p", "r2")


def test_a_verdict_waits_for_its_request(root: Path) -> None:
    with pytest.raises(Parked, match="request p"):
        handlers.on_approval_decided(decided(root, "lapsed"), Memory().ports)


def test_a_switch_of_an_unknown_version_waits_for_it() -> None:
    with pytest.raises(Parked, match="m/1"):
        handlers.on_switch_appended(switched(1, 40), Memory().ports)


@pytest.mark.parametrize("time", [2, 9])
def test_a_switch_serves_from_the_stream_time_of_its_record_on_earlier_or_later_than_it_was_due(
    memory: Memory, root: Path, time: int
) -> None:
    handlers.on_approval_decided(decided(root, "approved"), memory.ports)
    handlers.on_switch_appended(switched(1, 40, time=time), memory.ports)
    (found,) = memory.switched
    assert (found.stream_time, found.effective_at) == (time, 5)
    assert [served_at_time([found], 0, at) for at in (time - 1, time)] == [None, found]


def test_a_switch_that_was_said_without_its_stream_time_serves_from_when_it_was_due(memory: Memory, root: Path) -> None:
    handlers.on_approval_decided(decided(root, "approved"), memory.ports)
    handlers.on_switch_appended(switched(1, 40), memory.ports)
    assert memory.switched[0].stream_time == 5


def test_each_shard_has_a_stream_time_of_its_own() -> None:
    first, second = switch(), replace(switch(), partition=1, stream_time=8)
    assert [served_at_time([first, second], shard, 6) for shard in (0, 1)] == [first, None]


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=20), st.data())
def test_what_served_at_a_position_and_behind_a_stream_time_is_what_the_log_says(log: list[tuple[int, bool]], data: Any) -> None:
    """The log record by record: by how much each moves the stream time, and whether it is a switch, which moves none."""
    switches, version, time, served, behind = list[Switch](), 0, 0, list[tuple[int, int]](), {-1: 0}
    for position, (step, turns) in enumerate(log):
        time += 0 if turns else step
        version += turns
        if turns:
            due = data.draw(st.integers(0, 50))
            switches.append(Switch("s", "m", version, version, 0, position, time, due, "", ""))
        served.append((time, version))
        behind[time] = version
    for position, (at, expected) in enumerate(served):
        assert version_of(served_at_position(switches, 0, position)) == expected
        assert version_of(served_at_time(switches, 0, at)) == behind[at] >= expected
    assert version_of(served_at_time(switches, 0, -1)) == version_of(served_at_position(switches, 0, -1)) == 0


def version_of(found: Switch | None) -> int:
    return found.version if found else 0
