"""Rollout orders with decisions that hold, and with those that do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from services.ingest.orders import Decision, Order
from tests.unit.ingest.world import NOW, SECOND
from tidemill.bus.control_client import Heard
from tidemill.events.base import Event
from tidemill.events.envelope import Envelope
from tidemill.events.governance import ApprovalRequested, DecisionSubmitted, RolloutOrdered
from tidemill.events.serving import ModelPrepared, ModelRefused
from tidemill.models.artifact import LINEAGE
from tidemill.models.rollout import content_of
from tidemill.spec import Bundle, ModelSpec
from tidemill.store import digest_of, manifest_of
from tidemill.trust import decision, dsse, keys, statement
from tidemill.trust.statement import Statement

EXPIRES = NOW + 1000 * SECOND


def with_model(bundle: Bundle) -> Bundle:
    """The same use case with a model `m`, which one of `ops-review` must approve."""
    model = {
        "version": 1, "model": "m", "owner": "tests", "trigger": f"{bundle.stream.stream}.t", "task": "binary",
        "features": {"event": ["amount"]}, "label": {"source": "b", "match": "id", "value": "amount > 1", "within": "1d"},
        "approval": {"approvers": ["ops-review"]},
    }  # fmt: skip
    return bundle.model_copy(update={"models": {"m": ModelSpec.model_validate(model)}})


def generate(root: Path) -> Path:
    """Keys of four approvers and of somebody else below `root`; returns the trust folder."""
    for name in ("ann", "bob", "training", "author"):
        keys.generate(name, root / "private", root / "pinned" / "ops-review")
    keys.generate("mallory", root / "private", root / "elsewhere")
    return root / "pinned"


def files(rollout: int) -> dict[str, bytes]:
    """As much of an artifact as a decision rests on."""
    return {LINEAGE: json.dumps({"requester": "training", "rollout": rollout}).encode()}


def artifact_of(rollout: int) -> str:
    """The digest under which a store keeps them."""
    return digest_of(manifest_of({name: digest_of(data) for name, data in files(rollout).items()}))


def ordered(
    root: Path,
    stream: str = "world",
    signer: str = "ann",
    order: str = "o1",
    rollout: int = 1,
    expires: int = EXPIRES,
    effective: int = 0,
    **over: Any,
) -> RolloutOrdered:
    """An order whose decision `signer` has signed; `over` changes the order behind the signer's back."""
    artifact, report = artifact_of(rollout), "sha256:" + "cd" * 32
    asked = statement.Decision(
        stream=stream, model="m", version=rollout, report=report, action="promote", rollout=rollout, effective_at=effective,
        approval=f"p{rollout}", run=f"r{rollout}", requester="training", author="carol", expires=expires, reason="",
    )  # fmt: skip
    envelope = signed(root, Statement.of(artifact, asked).decided("approve", "looks right"), signer)
    said = {
        "order": order, "stream": stream, "model": "m", "version": rollout, "run": f"r{rollout}", "artifact": artifact, "report": report,
        "action": "promote", "rollout": rollout, "fallback": None, "group": "ops-review", "required": 1, "requester": "training",
        "author": "carol", "approval": f"p{rollout}", "effective_at": effective, "expires": expires, "envelopes": [envelope],
    }  # fmt: skip
    return RolloutOrdered.model_validate(said | over)


def signed(root: Path, said: Statement, signer: str, keyid: str = "") -> str:
    """The envelope, in the name of somebody else where `keyid` says so."""
    return dsse.sign(said.text().encode(), keys.load_private(root / "private" / f"{signer}.pem"), keyid or signer)


def asked(said: RolloutOrdered, **over: Any) -> ApprovalRequested:
    """The request behind an order: open up to `EXPIRES`."""
    text = statement.parse(dsse.parse(said.envelopes[0]).payload).question
    shared = said.model_dump(include=set(ApprovalRequested.model_fields))
    return ApprovalRequested.model_validate(
        shared | {"gates": [], "statement": text, "requested_at": NOW, "deadline": EXPIRES} | over
    )


def submitted(envelope: str) -> DecisionSubmitted:
    """A decision as its signer submits it."""
    parsed = dsse.parse(envelope)
    said = statement.parse(parsed.payload).predicate
    return DecisionSubmitted(
        approval=said.approval, approver=parsed.keyid, verdict=said.verdict, reason=said.reason, envelope=envelope
    )


def rejected(root: Path, said: RolloutOrdered, signer: str = "bob", keyid: str = "", **lies: Any) -> DecisionSubmitted:
    """The rejection of what is ordered."""
    told = statement.parse(dsse.parse(said.envelopes[0]).payload).decided("reject", "odd drift")
    told = told.model_copy(update={"predicate": told.predicate.model_copy(update=lies)})
    return submitted(signed(root, told, signer, keyid))


def heard(said: RolloutOrdered, fresh: bool = True, at: int = NOW) -> Order:
    return Order(said, f"event-{said.order}", None, at, fresh)


def taken(said: DecisionSubmitted, at: int) -> Decision:
    """A decision that the broker took at that time."""
    return Decision(said.envelope, decision.submitted(said), at)


def told(event: Event, at: int = 0) -> Heard:
    """An event as a follower hands it over; the broker took it at that time, us."""
    return Heard(event, Envelope(), "", 0, 0, at)


def prepared(said: RolloutOrdered, *partitions: int) -> ModelPrepared:
    return ModelPrepared(
        stream=said.stream, model=said.model, version=said.version, artifact=said.artifact, rollout=said.rollout, order=said.order,
        worker="w", partitions=list(partitions), content=content_of(said),
    )  # fmt: skip


def declined(said: RolloutOrdered, reason: str) -> ModelRefused:
    return ModelRefused(
        stream=said.stream, model=said.model, version=said.version, artifact=said.artifact, rollout=said.rollout, order=said.order,
        worker="w", reason=reason, content=content_of(said),
    )  # fmt: skip
