"""The facts of the domain 'governance'.

Generated from schemas/governance by `python -m tidemill.events.generate`: do not edit.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from tidemill.events.base import Event, Part
from tidemill.events.paths import Schema, load_schema

Outcome = Literal["approved", "rejected", "lapsed"]
Verdict = Literal["approve", "reject"]


class GateResult(Part):
    """A part of this domain's facts."""

    name: str
    passed: bool
    value: float | None = None
    bound: float | None = None
    message: str


class ApprovalDecided(Event):
    """What became of an approval request."""

    TOPIC: ClassVar[str | None] = "governance.approval-decided.v1"
    SCHEMA: ClassVar[Schema] = load_schema("governance/approval-decided.v1")
    KEY: ClassVar[str] = "model"

    approval: str
    stream: str
    model: str
    version: int
    run: str
    verdict: Outcome
    approvers: list[str]
    reason: str
    envelopes: list[str]
    decided_at: int


class ApprovalRequested(Event):
    """A version waits for people's decision."""

    TOPIC: ClassVar[str | None] = "governance.approval-requested.v1"
    SCHEMA: ClassVar[Schema] = load_schema("governance/approval-requested.v1")
    KEY: ClassVar[str] = "model"

    approval: str
    stream: str
    model: str
    version: int
    run: str
    artifact: str
    report: str
    action: str
    group: str
    required: int
    requester: str
    author: str
    rollout: int
    gates: list[GateResult]
    statement: str
    requested_at: int
    deadline: int
    effective_at: int


class AuditAppended(Event):
    """One link of the audit chain."""

    TOPIC: ClassVar[str | None] = "governance.audit-appended.v1"
    SCHEMA: ClassVar[Schema] = load_schema("governance/audit-appended.v1")
    KEY: ClassVar[str] = "subject"

    number: int
    at: int
    kind: str
    subject: str
    event: str
    detail: str
    previous: str
    hash: str


class DecisionSubmitted(Event):
    """An approver's signed decision."""

    TOPIC: ClassVar[str | None] = "governance.decision-submitted.v1"
    SCHEMA: ClassVar[Schema] = load_schema("governance/decision-submitted.v1")
    KEY: ClassVar[str] = "approval"

    approval: str
    approver: str
    verdict: Verdict
    reason: str
    envelope: str


class GateFailed(Event):
    """A version that will not be proposed."""

    TOPIC: ClassVar[str | None] = "governance.gate-failed.v1"
    SCHEMA: ClassVar[Schema] = load_schema("governance/gate-failed.v1")
    KEY: ClassVar[str] = "model"

    stream: str
    model: str
    version: int
    run: str
    gates: list[GateResult]


class RolloutOrdered(Event):
    """A signed decision is to take effect."""

    TOPIC: ClassVar[str | None] = "governance.rollout-ordered.v1"
    SCHEMA: ClassVar[Schema] = load_schema("governance/rollout-ordered.v1")
    KEY: ClassVar[str] = "model"

    order: str
    stream: str
    model: str
    version: int
    run: str
    artifact: str
    report: str
    action: str
    rollout: int
    fallback: int | None = None
    group: str
    required: int
    requester: str
    author: str
    approval: str
    effective_at: int
    expires: int
    envelopes: list[str]
