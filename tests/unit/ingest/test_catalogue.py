"""What ingest keeps of the control plane's events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.ingest import handlers
from services.ingest.adapters.control import Catalogue
from services.ingest.handlers import Judges
from services.ingest.model import State
from tests.unit.ingest.orders import asked, generate, ordered, prepared, rejected, submitted, told, with_model
from tests.unit.ingest.world import NOW, bundle
from tidemill.events.base import Event
from tidemill.events.governance import ApprovalDecided
from tidemill.trust.keys import KeyRing


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("trust")
    generate(made)
    return made


def outcome(root: Path, *events: Event) -> list[str]:
    """What becomes of the orders among the events, one after the other from `NOW` on, us."""
    catalogue, state = Catalogue(), State("world", 0, bundle=with_model(bundle()))
    for at, event in enumerate(events, NOW):
        catalogue.hear(told(event, at))
    judges = Judges(KeyRing.load(root / "pinned"), lambda _: "training")
    found = handlers.ready(catalogue.rollouts("world"), state, judges, 1, NOW)
    return ["switch" for _ in found.switches] + [reason for _, reason in found.refused]


@pytest.mark.parametrize(
    ("verdict", "forged"),
    [
        ("lapsed", None),
        ("rejected", None),
        ("rejected", {"signer": "mallory"}),
        ("rejected", {"signer": "mallory", "keyid": "bob"}),
        ("rejected", {"signer": "training"}),
        ("rejected", {"signer": "training", "requester": "x"}),
        ("rejected", {"version": 9}),
    ],
)
def test_no_forged_verdict_keeps_a_version_that_people_approved_from_serving(
    root: Path, verdict: Any, forged: dict[str, Any] | None
) -> None:
    order = ordered(root)
    decisions = [rejected(root, order, **forged)] if forged else []
    said = ApprovalDecided(
        **order.model_dump(include={"approval", "stream", "model", "version", "run"}), verdict=verdict, approvers=["bob"], reason="",
        envelopes=[one.envelope for one in decisions], decided_at=NOW,
    )  # fmt: skip
    approval = submitted(order.envelopes[0])
    assert outcome(root, asked(order), said, *decisions, approval, order, prepared(order, 0)) == ["switch"]


def test_what_somebody_has_signed_is_heard_with_the_brokers_time(root: Path) -> None:
    order = ordered(root)
    rejection, approval, rest = rejected(root, order), submitted(order.envelopes[0]), (order, prepared(order, 0))
    assert outcome(root, asked(order), rejection, approval, *rest) == ["rejected"]
    assert outcome(root, asked(order), approval, rejection, *rest) == ["switch"]
    assert outcome(root, asked(order, deadline=NOW + 1), approval, *rest) == ["switch"]
    assert outcome(root, asked(order, deadline=NOW), approval, *rest) == ["lapsed"]


@pytest.mark.parametrize("over", [{"reason": "fine"}, {"verdict": "approve"}, {"approver": "ann"}, {"envelope": "{}"}])
def test_a_submission_that_says_other_than_its_envelope_is_not_heard(root: Path, over: dict[str, Any]) -> None:
    order = ordered(root)
    assert outcome(root, rejected(root, order).model_copy(update=over), order, prepared(order, 0)) == ["switch"]
    assert outcome(root, rejected(root, order, reason=" "), order, prepared(order, 0)) == ["switch"]
