"""Rollout orders with decisions that hold, and with those that do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from services.ingest.handlers import Order
from tests.unit.ingest.world import NOW, SECOND
from tidemill.bus.control_client import Heard
from tidemill.events.base import Event
from tidemill.events.envelope import Envelope
from tidemill.events.governance import ApprovalDecided, RolloutOrdered
from tidemill.events.serving import ModelPrepared, ModelRefused
from tidemill.models.artifact import LINEAGE
from tidemill.models.rollout import content_of
from tidemill.spec import Bundle, ModelSpec
from tidemill.store import digest_of, manifest_of
from tidemill.trust import dsse, keys
from tidemill.trust.statement import Decision, Statement

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
    """Keys of two approvers and of somebody else below `root`; returns the trust folder."""
    for name in ("ann", "training"):
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
    decision = Decision(
        stream=stream, model="m", version=rollout, report=report, action="promote", rollout=rollout, effective_at=effective,
        approval=f"p{rollout}", run=f"r{rollout}", requester="training", author="carol", expires=expires, reason="",
    )  # fmt: skip
    text = Statement.of(artifact, decision).decided("approve", "looks right").text()
    envelope = dsse.sign(text.encode(), keys.load_private(root / "private" / f"{signer}.pem"), signer)
    said = {
        "order": order, "stream": stream, "model": "m", "version": rollout, "run": f"r{rollout}", "artifact": artifact, "report": report,
        "action": "promote", "rollout": rollout, "fallback": None, "group": "ops-review", "required": 1, "requester": "training",
        "author": "carol", "approval": f"p{rollout}", "effective_at": effective, "expires": expires, "envelopes": [envelope],
    }  # fmt: skip
    return RolloutOrdered.model_validate(said | over)


def heard(said: RolloutOrdered, fresh: bool = True) -> Order:
    return Order(said, f"event-{said.order}", None, fresh)


def told(event: Event) -> Heard:
    """An event as a follower hands it over."""
    return Heard(event, Envelope(), "", 0, 0, 0)


def prepared(said: RolloutOrdered, *partitions: int) -> ModelPrepared:
    return ModelPrepared(
        stream=said.stream, model=said.model, version=said.version, artifact=said.artifact, rollout=said.rollout, order=said.order,
        worker="w", partitions=list(partitions), content=content_of(said),
    )  # fmt: skip


def decided(said: RolloutOrdered, verdict: Any, *envelopes: str) -> ApprovalDecided:
    """What became of the request behind the order."""
    return ApprovalDecided(
        approval=said.approval, stream=said.stream, model=said.model, version=said.version, run=said.run, verdict=verdict, approvers=[],
        reason="", envelopes=list(envelopes), decided_at=0,
    )  # fmt: skip


def declined(said: RolloutOrdered, reason: str) -> ModelRefused:
    return ModelRefused(
        stream=said.stream, model=said.model, version=said.version, artifact=said.artifact, rollout=said.rollout, order=said.order,
        worker="w", reason=reason, content=content_of(said),
    )  # fmt: skip
