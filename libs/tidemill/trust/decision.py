"""Whether something is really decided: one judgement for every service that rests on decisions, each with its own pinned keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tidemill.errors import Refused
from tidemill.events.governance import ApprovalRequested, DecisionSubmitted, RolloutOrdered
from tidemill.events.log import ModelSwitched
from tidemill.trust import dsse, statement
from tidemill.trust.keys import KeyRing


@dataclass(frozen=True)
class Subject:
    """What the decision must be about, taken from the order or switch that claims it."""

    stream: str
    model: str
    version: int
    artifact: str
    report: str
    action: str
    rollout: int
    effective_at: int
    approval: str
    run: str

    @classmethod
    def of(cls, claim: ApprovalRequested | RolloutOrdered | ModelSwitched) -> Subject:
        """What a request, an order or a switch claims to be decided."""
        return cls(**{name: getattr(claim, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Policy:
    """Whose decision counts: `required` distinct approvers of `group`, none of them among the barred."""

    group: str
    required: int
    barred: frozenset[str] = frozenset()
    """Who wrote the spec or requested the run, as is known otherwise: what a statement claims of it is the signer's word alone."""


@dataclass(frozen=True)
class Verified:
    """A decision that holds: who made it, and until when (wall clock, microseconds)."""

    approvers: tuple[str, ...]
    expires: int

    def check_requester(self, requester: str) -> None:
        """Refused where who requested the run, by the artifact's own lineage, is among those who approved what came of it."""
        if requester in self.approvers:
            raise Refused("self-signed", f"{requester} requested the run that made this artifact; somebody else must decide")


def verify(envelopes: Sequence[str], ring: KeyRing, policy: Policy, subject: Subject) -> Verified:
    """Verified, or Refused with the reason. Expiry is not judged: of a switch that is in the log nobody asks it any more (R12).

    Every envelope must hold: one bad envelope beside enough good ones is still an attempt that nobody should serve.
    """
    return agreed([verify_one(text, ring, policy, subject) for text in envelopes], policy)


def agreed(signed: Sequence[tuple[str, statement.Statement]], policy: Policy) -> Verified:
    """What the results of `verify_one` come to together: Verified, or Refused where they are too few, or one says no."""
    approvers = tuple(sorted({name for name, _ in signed}))
    if len(approvers) < max(1, policy.required):
        raise Refused("too-few-approvers", f"{len(approvers)} of {policy.required} required approvers of {policy.group!r} signed")
    for name, decided in signed:
        if decided.predicate.verdict != "approve":
            raise Refused("not-approved", f"{name} decided {decided.predicate.verdict!r}")
    return Verified(approvers, min(decided.predicate.expires for _, decided in signed))


def verify_one(
    text: str, ring: KeyRing, policy: Policy, subject: Subject, *, now_us: int | None = None
) -> tuple[str, statement.Statement]:
    """One approver's envelope, of either verdict: (approver, statement), or Refused with the reason.

    Expiry is judged only where `now_us` (wall clock) is given.
    """
    envelope = dsse.parse(text)
    envelope.verify(ring.key(policy.group, envelope.keyid))
    decided = statement.parse(envelope.payload)
    _about(decided, subject)
    predicate = decided.predicate
    if envelope.keyid in policy.barred | {predicate.requester, predicate.author}:
        raise Refused("self-signed", f"{envelope.keyid} requested the run or wrote the spec; somebody else must decide")
    if now_us is not None and now_us > predicate.expires:
        raise Refused("expired", "the decision's time has passed; ask for a new approval")
    return envelope.keyid, decided


def submitted(event: DecisionSubmitted) -> statement.Statement:
    """What a submitted decision claims to be signed, before any signature is verified.

    Refused where the event says something else than its envelope, or where no reason is given.
    """
    envelope = dsse.parse(event.envelope)
    said = statement.parse(envelope.payload)
    if (envelope.keyid, said.predicate.verdict, said.predicate.reason) != (event.approver, event.verdict, event.reason):
        raise Refused("not-what-was-signed", "the event says something else than its envelope")
    if not said.predicate.reason.strip():
        raise Refused("no-reason", "say why, for those who read the audit log")
    return said


def _about(decided: statement.Statement, subject: Subject) -> None:
    for name in Subject.__dataclass_fields__:
        signed, wanted = getattr(decided if name == "artifact" else decided.predicate, name), getattr(subject, name)
        if signed != wanted:
            raise Refused("other-subject", f"the signed decision says {name} {signed!r}, the order says {wanted!r}")
