"""A demonstration's approvers, each its own process, on the real broker."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from services.governance.model import requested
from tests.conftest import Stack
from tests.waiting import until
from tidemill.bus.control_client import Publisher, read_all
from tidemill.demo import run
from tidemill.events.governance import ApprovalRequested, DecisionSubmitted
from tidemill.events.topics import control_topics
from tidemill.settings import Settings
from tidemill.spec import Bundle, load
from tidemill.spec.model import Approval
from tidemill.stack.state import Running, State
from tidemill.trust.statement import Decision

FLIGHTS = load(Path(__file__).parents[2] / "usecases" / "flights")
REQUIRED = {"lenient": 1, "strict": 2}


def two_models(group: str) -> Bundle:
    """Of one group of approvers, of which one wants one signature and the other two."""
    (model,) = FLIGHTS.models.values()
    asking = {name: Approval(approvers=[group], required=count) for name, count in REQUIRED.items()}
    return FLIGHTS.model_copy(
        update={"models": {name: model.model_copy(update={"model": name, "approval": one}) for name, one in asking.items()}}
    )


def asked(bundle: Bundle, model: str) -> ApprovalRequested:
    decision = Decision(
        stream="flights", model=model, version=1, report="sha256:" + "b" * 64, action="promote", rollout=1, effective_at=0,
        approval=str(uuid.uuid4()), run="r1", requester="training", author="bob", expires=2**60,
    )  # fmt: skip
    return requested(decision, "sha256:" + "a" * 64, bundle.models[model].approval, [], 0)


def decisions(settings: Settings) -> set[tuple[str, str]]:
    """(approval, approver) of all that were submitted."""
    found = (heard.event for heard in read_all(settings, [DecisionSubmitted]))
    return {(event.approval, event.approver) for event in found if isinstance(event, DecisionSubmitted)}


def test_a_request_is_signed_by_as_many_as_its_own_model_requires(stack: Stack) -> None:
    stack.topics(control_topics())
    settings, bundle = stack.settings(), two_models(f"g-{uuid.uuid4().hex[:10]}")
    lenient, strict = (asked(bundle, name) for name in REQUIRED)
    wanted = {
        (one.approval, name) for one, name in ((lenient, run.APPROVER), (strict, run.APPROVER), (strict, f"{run.APPROVER}-2"))
    }
    run.prepare(settings.data_dir, bundle)
    (settings.data_dir / "logs").mkdir()
    State(supervisor=Running.of(os.getpid()), kafka=stack.bootstrap, schema_registry=stack.registry_url).write(settings.data_dir)
    with run.deciding(settings.data_dir, bundle), Publisher(settings, "test") as publisher:
        for request in (lenient, strict):  # each signer comes to them in this order
            publisher.publish(request)
        found = until(lambda: wanted <= (said := decisions(settings)) and said, "the decisions")
    assert {(approval, name) for approval, name in found if approval in (lenient.approval, strict.approval)} == wanted
