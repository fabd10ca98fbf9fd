"""What governance does about each fact it hears, and when a deadline has come."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from services.governance.gates import evaluate, measured, overtaken
from services.governance.model import Proposal, Verdict, decided, ordered, requested
from services.governance.ports import Ports
from tidemill.bus.control import Due, Parked, Saying, Timer
from tidemill.errors import Refused, Rejected
from tidemill.events.governance import DecisionSubmitted, GateFailed, GateResult
from tidemill.events.identity import event_id
from tidemill.events.ingest import SwitchRefused
from tidemill.events.registry import AliasChanged, VersionRegistered
from tidemill.events.spec import Applied
from tidemill.spec import Bundle
from tidemill.spec.model import ModelSpec
from tidemill.trust.decision import Verified, agreed, submitted, verify_one
from tidemill.trust.statement import Decision, Statement

DEADLINE = "deadline"
LATE, GRACE = 5_000_000, 20_000_000
"""us: a deadline that comes so late was missed; so long it then waits, more than a service needs to hear what has been said meanwhile."""
PROMOTE = "promote"


def on_applied(event: Applied, ports: Ports) -> Sequence[Saying]:
    """Remember the stream's policies and who wrote them: nobody approves what they wrote themselves."""
    bundle = Bundle.applied(event.stream, event.content)  # read at once: what cannot be read must not meet a later version
    ports.specs.put(event.stream, bundle.digest, event.author, event.content)
    return [ports.audit.append("spec-applied", event.stream, {"digest": event.digest, "author": event.author})]


def on_alias_changed(event: AliasChanged, ports: Ports) -> Sequence[Saying]:
    """Remember who serves, to name it as the fallback of the next order."""
    if event.alias == "champion":
        ports.champions.set(event.stream, event.model, event.version)
        ports.proposals.answered_up_to(event.stream, event.model, event.rollout)
    return []


def on_switch_refused(event: SwitchRefused, ports: Ports) -> Sequence[Saying]:
    """An approved version will not come to serve after all.

    The refusal of a forged copy of its order looks alike. It is believed: whoever comes next is judged again when approved.
    """
    proposal = ports.proposals.get(event.approval)
    if proposal is not None and proposal.state == "approved" and proposal.order == event.order:
        ports.proposals.answered(event.approval)
    return []


def on_version_registered(event: VersionRegistered, ports: Ports) -> Sequence[Saying]:
    """Judge the version by its model file's gates; propose it to people when it holds all of them."""
    spec = ports.specs.get(event.stream)
    if spec is None or event.model not in spec[1].models:
        raise Parked(f"the spec of {event.stream}/{event.model}")
    if ports.proposals.of_version(event.stream, event.model, event.version) is not None:
        return []
    author, bundle = spec
    wrote = ports.specs.author(event.stream, event.spec_digest)
    if wrote is None and event.spec_digest == bundle.digest:  # it was kept under the digest that an earlier release made of it
        wrote = author
    if wrote is None:
        raise Parked(f"the spec {event.spec_digest} of {event.stream}", after=Applied)
    policy = bundle.models[event.model]
    gates = evaluate(policy.gates, event, _serving(event.stream, event.model, ports))
    if not all(gate.passed for gate in gates):
        return _refuse(event, gates, ports)
    return [*_supersede(event, ports), *_propose(event, gates, (author, wrote), policy, ports)]


def on_decision_submitted(event: DecisionSubmitted, ports: Ports) -> Sequence[Saying]:
    """Count a signed decision; close the request when it is rejected, or approved by as many as its policy wants."""
    proposal = ports.proposals.get(event.approval)
    if proposal is None:
        raise Rejected("unknown-approval", f"there is no approval request {event.approval!r}; see `tidemill approvals list`")
    if proposal.state != "open":
        raise Rejected("approval-closed", f"request {event.approval} is {proposal.state} already")
    deadline = proposal.request.deadline
    if ports.meta.now > deadline and ports.arrivals.taken() > deadline:  # what came in time counts, though governance was away
        raise Rejected("too-late", f"decision about {event.approval}: it came after the request's deadline")
    approver, said = _verified(event, proposal, ports)
    reason = said.predicate.reason
    if event.verdict == "reject":
        return _close(proposal, "rejected", [approver], reason, [event.envelope], ports)
    proposal, standing = _standing(proposal, ports)
    proposal = proposal.signed(approver, event.envelope)
    ports.proposals.put(proposal)
    link = ports.audit.append(
        "decision-signed", event.approval, {"approver": approver, "reason": reason, "envelope": event.envelope}
    )
    if not proposal.complete:
        return [link]
    verified = agreed(list((standing | {approver: said}).items()), proposal.policy)
    return [link, *_approve(proposal, verified, reason, ports)]


def on_deadline(due: Due, ports: Ports) -> Sequence[Saying]:
    """People's time is over: a request that is still open lapses.

    Where governance was away at that moment, what people said in time may not have been heard yet, and is waited for.
    """
    proposal = ports.proposals.get(due.subject)
    if proposal is None or proposal.state != "open":
        return []
    if not due.payload and ports.meta.now > due.at + LATE:
        return [Timer(DEADLINE, due.subject, ports.meta.now + GRACE, "again")]
    return _close(proposal, "lapsed", [], "nobody decided before the deadline", [], ports)


def _refuse(event: VersionRegistered, gates: list[GateResult], ports: Ports) -> list[Saying]:
    failed = [gate.message for gate in gates if not gate.passed]
    link = ports.audit.append("gate-failed", f"{event.model}/{event.version}", {"run": event.run, "failed": failed})
    return [GateFailed(stream=event.stream, model=event.model, version=event.version, run=event.run, gates=gates), link]


def _serving(stream: str, model: str, ports: Ports) -> int | None:
    """The version that serves, or that was approved and is about to."""
    coming = ports.proposals.ordered(stream, model)
    return coming.request.version if coming else ports.champions.get(stream, model)


def _supersede(event: VersionRegistered, ports: Ports) -> Sequence[Saying]:
    """At most one request of a model is open: people should not have to weigh a version that is already outdated."""
    older = ports.proposals.open_of(event.stream, event.model)
    return _close(older, "lapsed", [], f"superseded by version {event.version}", [], ports) if older else []


def _propose(
    event: VersionRegistered, gates: list[GateResult], authors: tuple[str, str], policy: ModelSpec, ports: Ports
) -> list[Saying]:
    """`authors`: of the newest spec, and of the one that the version was trained under."""
    approval = event_id(ports.meta.id, "approval", f"{event.model}/{event.version}")
    decision = Decision(
        stream=event.stream,
        model=event.model,
        version=event.version,
        report=event.report,
        action=PROMOTE,
        rollout=ports.proposals.next_rollout(event.stream, event.model),
        effective_at=event.effective_at,
        approval=approval,
        run=event.run,
        requester=event.requester,
        author=authors[0],
        expires=ports.meta.now + 2 * policy.approval.deadline,
    )
    request = requested(decision, event.artifact, policy.approval, gates, ports.meta.now)
    ports.proposals.put(Proposal(request, measured=measured(policy.gates, event), spec_author=authors[1]))
    link = ports.audit.append(
        "approval-requested", approval, {"version": f"{event.model}/{event.version}", "statement": request.statement}
    )
    return [request, link, Timer(DEADLINE, approval, request.deadline)]


def _verified(event: DecisionSubmitted, proposal: Proposal, ports: Ports) -> tuple[str, Statement]:
    """(approver, statement) of a decision that holds; Rejected otherwise."""
    try:
        approver, said = verify_one(event.envelope, ports.keys, proposal.policy, proposal.subject, now_us=ports.meta.now)
        submitted(event)
    except Refused as error:
        raise Rejected(error.reason, f"decision about {event.approval}: {error.message}") from error
    if not proposal.asked(said):
        raise Rejected(
            "other-statement", f"decision about {event.approval}: the signed statement is not the one that was asked for"
        )
    return approver, said


def _standing(proposal: Proposal, ports: Ports) -> tuple[Proposal, dict[str, Statement]]:
    """Without the envelopes that hold no more, since a key may have been taken from the pinned ones; and what the others say."""
    said = {}
    for approver, envelope in proposal.envelopes:
        with suppress(Refused):
            _, said[approver] = verify_one(envelope, ports.keys, proposal.policy, proposal.subject, now_us=ports.meta.now)
    return proposal.holding((approver, envelope) for approver, envelope in proposal.envelopes if approver in said), said


def _approve(proposal: Proposal, verified: Verified, reason: str, ports: Ports) -> list[Saying]:
    """Order the version, unless another has come to serve since its figures were measured."""
    envelopes = [text for _, text in proposal.envelopes]
    request = proposal.request
    if late := overtaken(proposal.measured, _serving(request.stream, request.model, ports)):
        return _close(proposal, "lapsed", [], late, [], ports)
    order = ordered(proposal, ports.champions.get(request.stream, request.model), verified.expires)
    said = _close(proposal, "approved", list(verified.approvers), reason, envelopes, ports)
    detail = {"approval": request.approval, "version": f"{request.model}/{request.version}", "rollout": request.rollout}
    return [*said, order, ports.audit.append("rollout-ordered", order.order, detail)]


def _close(
    proposal: Proposal, verdict: Verdict, approvers: list[str], reason: str, envelopes: list[str], ports: Ports
) -> list[Saying]:
    ports.proposals.put(proposal.closed(verdict, reason))
    detail: dict[str, object] = {"approvers": approvers, "reason": reason, "envelopes": envelopes}
    link = ports.audit.append(f"approval-{verdict}", proposal.request.approval, detail)
    return [decided(proposal, verdict, approvers, reason, envelopes, ports.meta.now), link]
