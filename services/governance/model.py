"""An approval request and its life: open, then approved, rejected or lapsed. Values and rules, pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from tidemill.events.governance import ApprovalDecided, ApprovalRequested, GateResult, RolloutOrdered
from tidemill.events.identity import event_id
from tidemill.spec.model import Approval
from tidemill.trust.decision import Policy, Subject
from tidemill.trust.statement import Decision, Statement, question

Verdict = Literal["approved", "rejected", "lapsed"]
State = Literal["open", "approved", "rejected", "lapsed"]


@dataclass(frozen=True, slots=True)
class Proposal:
    """One request, what was decided about it, and the envelopes (by approver) that say so."""

    request: ApprovalRequested
    state: State = "open"
    envelopes: tuple[tuple[str, str], ...] = ()
    reason: str = ""
    measured: int | None = None
    """The champion that the version had to beat, 0 where there was none; None where no gate asks for it."""

    spec_author: str = ""
    """Who wrote the spec under which the version was trained; the request names who wrote the newest."""

    @property
    def subject(self) -> Subject:
        """What a decision must be about."""
        return Subject.of(self.request)

    @property
    def policy(self) -> Policy:
        """Whose decision counts."""
        request = self.request
        return Policy(request.group, request.required, frozenset({request.author, request.requester, self.spec_author}))

    def asked(self, said: Statement) -> bool:
        """Whether a statement is the one that was asked for, but for verdict and reason: its requester, author and expiry too."""
        return said.question == question(self.request.statement)

    @property
    def order(self) -> str:
        """The id of the order that its approval leads to."""
        return event_id(self.request.approval, "order", self.request.model)

    @property
    def complete(self) -> bool:
        """Whether enough people approved."""
        return len(self.envelopes) >= self.request.required

    def signed(self, approver: str, envelope: str) -> Proposal:
        """With one more approver's envelope; the same approver's later one replaces the earlier."""
        return replace(self, envelopes=(*((name, text) for name, text in self.envelopes if name != approver), (approver, envelope)))

    def holding(self, envelopes: Iterable[tuple[str, str]]) -> Proposal:
        """With these envelopes alone."""
        return replace(self, envelopes=tuple(envelopes))

    def closed(self, state: State, reason: str) -> Proposal:
        """With its end."""
        return replace(self, state=state, reason=reason)


def requested(decision: Decision, artifact: str, policy: Approval, gates: list[GateResult], now: int) -> ApprovalRequested:
    """The request for a decision about an artifact that has passed its gates. `now` is wall time, microseconds."""
    return ApprovalRequested(
        approval=decision.approval,
        stream=decision.stream,
        model=decision.model,
        version=decision.version,
        run=decision.run,
        artifact=artifact,
        report=decision.report,
        action=decision.action,
        group=policy.approvers[0],
        required=policy.required,
        requester=decision.requester,
        author=decision.author,
        rollout=decision.rollout,
        gates=gates,
        statement=Statement.of(artifact, decision).text(),
        requested_at=now,
        deadline=now + policy.deadline,
        effective_at=decision.effective_at,
    )


def decided(
    proposal: Proposal, verdict: Verdict, approvers: list[str], reason: str, envelopes: list[str], now: int
) -> ApprovalDecided:
    """The fact that a request came to its end. `now` is wall time, microseconds."""
    request = proposal.request
    return ApprovalDecided(
        approval=request.approval,
        stream=request.stream,
        model=request.model,
        version=request.version,
        run=request.run,
        verdict=verdict,
        approvers=approvers,
        reason=reason,
        envelopes=envelopes,
        decided_at=now,
    )


def ordered(proposal: Proposal, fallback: int | None, expires: int) -> RolloutOrdered:
    """The order that an approved request leads to. `fallback` is the version that serves until then."""
    request = proposal.request
    return RolloutOrdered(
        order=proposal.order,
        stream=request.stream,
        model=request.model,
        version=request.version,
        run=request.run,
        artifact=request.artifact,
        report=request.report,
        action=request.action,
        rollout=request.rollout,
        fallback=fallback,
        group=request.group,
        required=request.required,
        requester=request.requester,
        author=request.author,
        approval=request.approval,
        effective_at=request.effective_at,
        expires=expires,
        envelopes=[text for _, text in proposal.envelopes],
    )
