"""Gates, proposals, people's decisions and the chain that remembers them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from services.governance import handlers
from services.governance.model import Proposal
from services.governance.ports import Ports
from tidemill.bus.control import Due, Meta, Parked, Saying, Timer
from tidemill.errors import Refused, Rejected
from tidemill.events.governance import (
    ApprovalDecided,
    ApprovalRequested,
    AuditAppended,
    DecisionSubmitted,
    GateFailed,
    RolloutOrdered,
)
from tidemill.events.ingest import SwitchRefused
from tidemill.events.registry import AliasChanged, VersionRegistered
from tidemill.events.spec import Applied
from tidemill.spec import Bundle, load
from tidemill.trust import audit, dsse, keys
from tidemill.trust.statement import parse

FLIGHTS = Path(__file__).parents[3] / "usecases" / "flights"
BUNDLE = load(FLIGHTS)
HOUR = 3_600_000_000
T = TypeVar("T")


@dataclass
class Memory:
    """All of governance's ports, in memory."""

    keys: keys.KeyRing
    now: int = 0
    came: int = 0
    """When the broker took the event at hand."""
    cause: str = "cause-1"
    spec: tuple[str, Bundle] | None = None
    authors: dict[str, str] = field(default_factory=dict)
    """By digest."""
    proposals: dict[str, Proposal] = field(default_factory=dict)
    champion: dict[tuple[str, str], int | None] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    """Approvals whose orders have had their answer."""
    chain: list[AuditAppended] = field(default_factory=list)

    def put(self, *what: Any) -> None:
        if isinstance(what[0], Proposal):
            self.proposals[what[0].request.approval] = what[0]
        else:
            self.spec = (what[2], Bundle.from_json(what[3]))
            self.authors.setdefault(what[1], what[2])

    def get(self, approval: str) -> Proposal | None:
        return self.proposals.get(approval)

    def open_of(self, stream: str, model: str) -> Proposal | None:
        return next((one for one in self._of(stream, model) if one.state == "open"), None)

    def of_version(self, stream: str, model: str, version: int) -> Proposal | None:
        return next((one for one in self._of(stream, model) if one.request.version == version), None)

    def next_rollout(self, stream: str, model: str) -> int:
        return 1 + max((one.request.rollout for one in self._of(stream, model)), default=0)

    def ordered(self, stream: str, model: str) -> Proposal | None:
        waiting = [p for p in self._of(stream, model) if p.state == "approved" and p.request.approval not in self.done]
        return max(waiting, key=lambda one: one.request.rollout, default=None)

    def answered(self, approval: str) -> None:
        self.done.add(approval)

    def answered_up_to(self, stream: str, model: str, rollout: int) -> None:
        self.done |= {one.request.approval for one in self._of(stream, model) if one.request.rollout <= rollout}

    def _of(self, stream: str, model: str) -> list[Proposal]:
        return [one for one in self.proposals.values() if (one.request.stream, one.request.model) == (stream, model)]

    def append(self, kind: str, subject: str, detail: dict[str, object]) -> AuditAppended:
        self.chain.append(audit.link(self.chain[-1] if self.chain else None, self.now, kind, subject, self.cause, detail))
        return self.chain[-1]

    def taken(self) -> int:
        return self.came

    @property
    def ports(self) -> Ports:
        return Ports(Meta(self.cause, self.now, self.now), _Specs(self), self, _Champions(self), self, self, self.keys)


@dataclass
class _Specs:
    memory: Memory

    def put(self, stream: str, digest: str, author: str, content: str) -> None:
        self.memory.put(stream, digest, author, content)

    def author(self, stream: str, digest: str) -> str | None:
        return self.memory.authors.get(digest)

    def get(self, stream: str) -> tuple[str, Bundle] | None:
        return self.memory.spec


@dataclass
class _Champions:
    memory: Memory

    def get(self, stream: str, model: str) -> int | None:
        return self.memory.champion.get((stream, model))

    def set(self, stream: str, model: str, version: int | None) -> None:
        self.memory.champion[stream, model] = version


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trust")
    for name in ("ann", "bob"):
        keys.generate(name, root / "private", root / "pinned" / "ops-review")
    return root


@pytest.fixture
def memory(trust: Path) -> Memory:
    memory = Memory(keys.KeyRing.load(trust / "pinned"))
    handlers.on_applied(applied("carol"), memory.ports)
    return memory


def applied(author: str, bundle: Bundle = BUNDLE) -> Applied:
    return Applied(stream="flights", digest=bundle.digest, author=author, content=bundle.to_json(), applied_at=0)


def version(number: int = 1, champion: int | None = None, **metrics: float) -> VersionRegistered:
    return VersionRegistered(
        stream="flights", model="late-arrival", version=number, run=f"r{number}", cause_kind="labels", cause_id="c", requester="training",
        artifact="sha256:" + "a" * 64, report="sha256:" + "b" * 64, dataset="", code_digest="", spec_digest=BUNDLE.digest, parameters={}, rows=1,
        from_position=0, to_position=1, metrics={"log_loss": 0.30, "calibration_error": 0.01} | metrics,
        baseline={"log_loss": 0.35}, champion={"log_loss": 0.32} if champion else {}, champion_version=champion, effective_at=9 * HOUR,
    )  # fmt: skip


def champion(number: int) -> AliasChanged:
    return AliasChanged(
        stream="flights", model="late-arrival", alias="champion", version=number, previous=None, approval="", run="", rollout=1,
        partition=0, position=0,
    )  # fmt: skip


def one(said: Sequence[Saying], kind: type[T]) -> T:
    (found,) = [event for event in said if isinstance(event, kind)]
    return found


def proposed(memory: Memory, number: int = 1) -> ApprovalRequested:
    memory.cause = f"cause-{number}"
    return one(handlers.on_version_registered(version(number), memory.ports), ApprovalRequested)


def decision(
    trust: Path, request: ApprovalRequested, name: str = "ann", verdict: Any = "approve", reason: str = "fine"
) -> DecisionSubmitted:
    said = parse(request.statement.encode()).decided(verdict, reason)
    envelope = dsse.sign(said.text().encode(), keys.load_private(trust / "private" / f"{name}.pem"), name)
    return DecisionSubmitted(approval=request.approval, approver=name, verdict=verdict, reason=reason, envelope=envelope)


def test_a_version_that_passes_its_gates_is_proposed_to_people_with_a_deadline(memory: Memory) -> None:
    said = handlers.on_version_registered(version(), memory.ports)
    request, timer = one(said, ApprovalRequested), one(said, Timer)
    assert (request.group, request.author, request.rollout, request.effective_at) == ("ops-review", "carol", 1, 9 * HOUR)
    assert (timer.subject, timer.at, request.deadline) == (request.approval, 72 * HOUR, 72 * HOUR)
    assert all(gate.passed for gate in request.gates)


@pytest.mark.parametrize(
    ("bad", "gate"),
    [
        (version(log_loss=0.36), "beats-baseline"),
        (version(champion=7, log_loss=0.33), "beats-champion"),
        (version(calibration_error=0.06), "calibrated"),
        (version(log_loss=float("nan")), "beats-baseline"),
    ],
)
def test_a_version_that_fails_a_gate_is_not_proposed(memory: Memory, bad: VersionRegistered, gate: str) -> None:
    said = handlers.on_version_registered(bad, memory.ports)
    failed = [result.name for result in one(said, GateFailed).gates if not result.passed]
    assert gate in failed
    assert not memory.proposals


def test_a_missing_figure_is_a_failed_gate(memory: Memory) -> None:
    bare = version().model_copy(update={"metrics": {}})
    assert not any(
        gate.passed
        for gate in one(handlers.on_version_registered(bare, memory.ports), GateFailed).gates
        if gate.name == "calibrated"
    )


def test_models_of_one_name_in_two_streams_have_requests_of_their_own(memory: Memory) -> None:
    mine = proposed(memory)
    memory.cause = "cause-elsewhere"
    said = handlers.on_version_registered(version().model_copy(update={"stream": "other"}), memory.ports)
    theirs = one(said, ApprovalRequested)
    assert (mine.rollout, theirs.rollout) == (1, 1)
    assert {one.state for one in memory.proposals.values()} == {"open"}
    handlers.on_alias_changed(champion(4), memory.ports)
    assert memory.champion == {("flights", "late-arrival"): 4}


def test_an_approved_version_is_ordered_with_its_decision_and_its_fallback(memory: Memory, trust: Path) -> None:
    handlers.on_alias_changed(champion(4), memory.ports)
    request = one(handlers.on_version_registered(version(5, champion=4), memory.ports), ApprovalRequested)
    said = handlers.on_decision_submitted(decision(trust, request), memory.ports)
    order = one(said, RolloutOrdered)
    assert (order.version, order.rollout, order.fallback, len(order.envelopes)) == (5, 1, 4, 1)
    assert one(said, ApprovalDecided).approvers == ["ann"]


def test_two_required_approvers_are_two_people(memory: Memory, trust: Path) -> None:
    request = proposed(memory)
    memory.put(Proposal(request.model_copy(update={"required": 2})))
    for _ in range(2):
        assert not [
            x for x in handlers.on_decision_submitted(decision(trust, request), memory.ports) if isinstance(x, ApprovalDecided)
        ]
    order = one(handlers.on_decision_submitted(decision(trust, request, "bob"), memory.ports), RolloutOrdered)
    assert len(order.envelopes) == 2


class Pinned(dict[str, Ed25519PublicKey]):
    """A group's keys, and whose was asked for: one for each envelope that is verified."""

    def __init__(self, group: Mapping[str, Ed25519PublicKey]) -> None:
        super().__init__(group)
        self.asked: list[str] = []

    def __getitem__(self, name: str) -> Ed25519PublicKey:
        self.asked.append(name)
        return super().__getitem__(name)


def test_each_envelope_is_verified_once_when_the_last_approver_signs(memory: Memory, trust: Path) -> None:
    request = proposed(memory)
    memory.put(Proposal(request.model_copy(update={"required": 2})))
    handlers.on_decision_submitted(decision(trust, request), memory.ports)
    pinned = Pinned(memory.keys.groups["ops-review"])
    memory.keys = keys.KeyRing({"ops-review": pinned})
    order = one(handlers.on_decision_submitted(decision(trust, request, "bob"), memory.ports), RolloutOrdered)
    assert (sorted(pinned.asked), len(order.envelopes)) == (["ann", "bob"], 2)
    assert order.expires == parse(request.statement.encode()).predicate.expires


def test_a_signature_whose_key_is_pinned_no_more_counts_for_nothing(memory: Memory, trust: Path, tmp_path: Path) -> None:
    request = proposed(memory)
    memory.put(Proposal(request.model_copy(update={"required": 2})))
    handlers.on_decision_submitted(decision(trust, request), memory.ports)
    for name in ("bob", "carl"):
        keys.generate(name, tmp_path / "private", tmp_path / "pinned" / "ops-review")
    memory.keys = keys.KeyRing.load(tmp_path / "pinned")  # ann's is gone
    said = handlers.on_decision_submitted(decision(tmp_path, request, "bob"), memory.ports)
    assert not [event for event in said if isinstance(event, RolloutOrdered)]
    order = one(handlers.on_decision_submitted(decision(tmp_path, request, "carl"), memory.ports), RolloutOrdered)
    assert len(order.envelopes) == 2


@pytest.mark.parametrize(("measured", "passes"), [(None, False), (3, False), (4, True)])
def test_a_version_that_was_not_measured_against_who_serves_by_now_is_refused(
    memory: Memory, measured: int | None, passes: bool
) -> None:
    handlers.on_alias_changed(champion(4), memory.ports)
    said = handlers.on_version_registered(version(5, measured), memory.ports)
    assert any(isinstance(event, ApprovalRequested) for event in said) is passes
    if not passes:
        failed = [gate.message for gate in one(said, GateFailed).gates if not gate.passed]
        assert failed == ["version 4 was approved since; the next run will be measured against it"]


def approved(memory: Memory, trust: Path, number: int) -> RolloutOrdered:
    """The order of a version that people have approved, and that nobody has heard of since."""
    return one(handlers.on_decision_submitted(decision(trust, proposed(memory, number)), memory.ports), RolloutOrdered)


def test_a_version_must_be_measured_against_who_was_approved_though_its_switch_has_not_come(memory: Memory, trust: Path) -> None:
    approved(memory, trust, 1)
    failed = one(handlers.on_version_registered(version(2), memory.ports), GateFailed)
    assert [gate.message for gate in failed.gates if not gate.passed] == [
        "version 1 was approved since; the next run will be measured against it"
    ]
    memory.cause = "cause-3"
    assert one(handlers.on_version_registered(version(3, champion=1), memory.ports), ApprovalRequested).version == 3


def refused(order: RolloutOrdered) -> SwitchRefused:
    return SwitchRefused(**order.model_dump(include=set(SwitchRefused.model_fields)), reason="serving: bad-digest")


def test_an_order_that_ingest_has_refused_has_not_to_be_beaten(memory: Memory, trust: Path) -> None:
    order = approved(memory, trust, 1)
    handlers.on_switch_refused(refused(order.model_copy(update={"order": "forged"})), memory.ports)
    assert isinstance(memory.ordered("flights", "late-arrival"), Proposal)
    handlers.on_switch_refused(refused(order), memory.ports)
    assert proposed(memory, 2).version == 2


def test_a_refusal_of_what_is_not_approved_yet_says_nothing_of_its_order(memory: Memory, trust: Path) -> None:
    request = proposed(memory)
    order = memory.proposals[request.approval].order
    early = SwitchRefused(
        **request.model_dump(include={"stream", "model", "version", "rollout", "approval", "run"}), order=order, reason="x"
    )
    handlers.on_switch_refused(early, memory.ports)
    handlers.on_decision_submitted(decision(trust, request), memory.ports)
    assert isinstance(memory.ordered("flights", "late-arrival"), Proposal)


def test_once_a_later_switch_serves_no_earlier_order_has_to_be_beaten(memory: Memory, trust: Path) -> None:
    approved(memory, trust, 1)
    handlers.on_alias_changed(champion(1).model_copy(update={"version": 9, "rollout": 7}), memory.ports)
    memory.cause = "cause-10"
    assert one(handlers.on_version_registered(version(10, champion=9), memory.ports), ApprovalRequested).version == 10


def test_a_request_lapses_on_its_approval_where_another_version_has_come_since(memory: Memory, trust: Path) -> None:
    request = proposed(memory, 2)
    handlers.on_alias_changed(champion(1), memory.ports)
    said = handlers.on_decision_submitted(decision(trust, request), memory.ports)
    verdict = one(said, ApprovalDecided)
    assert (verdict.verdict, verdict.reason) == ("lapsed", "version 1 was approved since; the next run will be measured against it")
    assert not [event for event in said if isinstance(event, RolloutOrdered)]


def test_a_rejection_ends_the_request_and_orders_nothing(memory: Memory, trust: Path) -> None:
    said = handlers.on_decision_submitted(decision(trust, proposed(memory), verdict="reject", reason="odd drift"), memory.ports)
    assert (one(said, ApprovalDecided).verdict, one(said, ApprovalDecided).reason) == ("rejected", "odd drift")
    assert not [event for event in said if isinstance(event, RolloutOrdered)]


def test_a_decision_without_a_reason_counts_for_nothing(memory: Memory, trust: Path) -> None:
    with pytest.raises(Rejected, match="no-reason"):
        handlers.on_decision_submitted(decision(trust, proposed(memory), reason=" "), memory.ports)


def test_an_event_that_says_other_than_its_envelope_counts_for_nothing(memory: Memory, trust: Path) -> None:
    submitted = decision(trust, proposed(memory), verdict="reject").model_copy(update={"verdict": "approve"})
    with pytest.raises(Rejected, match="not-what-was-signed"):
        handlers.on_decision_submitted(submitted, memory.ports)


@pytest.mark.parametrize("over", [{"requester": "nobody"}, {"author": "nobody"}, {"expires": 2**60}])
def test_a_statement_other_than_the_one_that_was_asked_for_counts_for_nothing(
    memory: Memory, trust: Path, over: dict[str, Any]
) -> None:
    request = proposed(memory)
    asked = parse(request.statement.encode())
    other = asked.model_copy(update={"predicate": asked.predicate.model_copy(update=over)}).text()
    with pytest.raises(Rejected, match="other-statement"):
        handlers.on_decision_submitted(decision(trust, request.model_copy(update={"statement": other})), memory.ports)
    assert memory.proposals[request.approval].envelopes == ()


def test_a_decision_replayed_on_another_request_counts_for_nothing(memory: Memory, trust: Path) -> None:
    old = decision(trust, proposed(memory, 1))
    new = proposed(memory, 2)
    with pytest.raises(Rejected, match="other-subject"):
        handlers.on_decision_submitted(old.model_copy(update={"approval": new.approval}), memory.ports)


def test_a_late_or_repeated_decision_changes_nothing(memory: Memory, trust: Path) -> None:
    request = proposed(memory)
    handlers.on_decision_submitted(decision(trust, request), memory.ports)
    with pytest.raises(Rejected, match="approval-closed"):
        handlers.on_decision_submitted(decision(trust, request, "bob", "reject"), memory.ports)


def test_a_request_lapses_at_its_deadline_unless_decided(memory: Memory, trust: Path) -> None:
    request = proposed(memory)
    due = Due("d", handlers.DEADLINE, request.approval, "", request.deadline)
    assert one(handlers.on_deadline(due, memory.ports), ApprovalDecided).verdict == "lapsed"
    assert handlers.on_deadline(due, memory.ports) == []


def test_a_decision_counts_by_when_the_broker_took_it_and_not_by_when_it_is_heard(memory: Memory, trust: Path) -> None:
    request = proposed(memory)
    memory.now = request.deadline + HOUR  # governance was away, and its timer comes after the decision
    memory.came = request.deadline + 1
    with pytest.raises(Rejected, match="too-late"):
        handlers.on_decision_submitted(decision(trust, request), memory.ports)
    assert memory.proposals[request.approval].state == "open"
    memory.came = request.deadline
    assert one(handlers.on_decision_submitted(decision(trust, request), memory.ports), RolloutOrdered).version == 1


def test_a_deadline_that_governance_has_missed_waits_for_what_was_said_in_time(memory: Memory) -> None:
    request = proposed(memory)
    due = Due("d", handlers.DEADLINE, request.approval, "", request.deadline)
    memory.now = request.deadline + HOUR
    (later,) = handlers.on_deadline(due, memory.ports)
    assert isinstance(later, Timer)
    assert memory.now < later.at < memory.now + HOUR
    due = Due("e", later.name, later.subject, later.payload, later.at)
    memory.now = later.at + HOUR
    assert one(handlers.on_deadline(due, memory.ports), ApprovalDecided).verdict == "lapsed"


def test_a_newer_version_replaces_an_open_request(memory: Memory) -> None:
    proposed(memory, 1)
    memory.cause = "cause-2"
    said = handlers.on_version_registered(version(2), memory.ports)
    assert (one(said, ApprovalDecided).version, one(said, ApprovalDecided).verdict) == (1, "lapsed")
    assert one(said, ApprovalRequested).rollout == 2


def test_a_version_without_a_spec_waits_for_it(memory: Memory) -> None:
    memory.spec = None
    with pytest.raises(Parked):
        handlers.on_version_registered(version(), memory.ports)


@pytest.mark.parametrize("over", [{"content": "{}"}, {"stream": "other"}])
def test_a_spec_that_cannot_be_followed_is_rejected_and_the_one_before_stays(memory: Memory, over: dict[str, str]) -> None:
    with pytest.raises(Rejected, match="bad-spec"):
        handlers.on_applied(applied("mallory").model_copy(update=over), memory.ports)
    assert proposed(memory).author == "carol"


def another() -> Bundle:
    """The flights with another description."""
    stream = BUNDLE.stream.model_copy(update={"description": "other"})
    return Bundle.from_json(BUNDLE.model_copy(update={"stream": stream}).to_json())


def test_who_wrote_the_versions_own_spec_may_not_approve_it_nor_who_wrote_the_newest(memory: Memory, trust: Path) -> None:
    for author, bundle in (("ann", another()), ("carol", another()), ("bob", BUNDLE)):  # whoever applies it again, it is ann's
        handlers.on_applied(applied(author, bundle), memory.ports)
    trained = version().model_copy(update={"spec_digest": another().digest})
    request = one(handlers.on_version_registered(trained, memory.ports), ApprovalRequested)
    assert request.author == "bob"
    for name in ("ann", "bob"):
        with pytest.raises(Rejected, match="self-signed"):
            handlers.on_decision_submitted(decision(trust, request, name), memory.ports)


def test_a_version_waits_for_the_spec_under_which_it_was_trained(memory: Memory) -> None:
    early = version().model_copy(update={"spec_digest": another().digest})
    with pytest.raises(Parked, match="the spec sha256:"):
        handlers.on_version_registered(early, memory.ports)
    handlers.on_applied(applied("bob", another()), memory.ports)
    handlers.on_applied(applied("carol"), memory.ports)
    request = one(handlers.on_version_registered(early, memory.ports), ApprovalRequested)
    assert (request.author, memory.proposals[request.approval].spec_author) == ("carol", "bob")


def test_every_decision_is_a_link_of_a_chain_that_verifies(memory: Memory, trust: Path) -> None:
    handlers.on_decision_submitted(decision(trust, proposed(memory)), memory.ports)
    assert audit.verify(memory.chain) == len(memory.chain) == 5


@given(st.data())
def test_a_chain_that_was_touched_does_not_verify(data: st.DataObject) -> None:
    chain: list[AuditAppended] = []
    for number in range(data.draw(st.integers(2, 6))):
        chain.append(audit.link(chain[-1] if chain else None, number, "kind", "subject", f"e{number}", {"n": number}))
    place = data.draw(st.integers(0, len(chain) - 1))
    touched = data.draw(st.sampled_from(["change", "drop", "swap"]))
    if touched == "change":
        chain[place] = chain[place].model_copy(update={"detail": json.dumps({"n": -1})})
    elif touched == "drop" and place < len(chain) - 1:
        del chain[place]
    else:
        chain[0], chain[-1] = chain[-1], chain[0]
    with pytest.raises(Refused, match="broken-chain"):
        audit.verify(chain)
