"""Registry and governance as processes on a real broker and real databases, and people's commands against their doors."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from services.governance import adapters as governance_tables
from services.registry import adapters as registry_tables
from tests.conftest import Stack
from tests.integration.control.begin import begin_here
from tests.waiting import until
from tidemill.bus.control import Meta
from tidemill.bus.control_client import Publisher, read_all
from tidemill.events.base import Event
from tidemill.events.governance import (
    ApprovalDecided,
    ApprovalRequested,
    DecisionSubmitted,
    GateFailed,
    RolloutOrdered,
)
from tidemill.events.ingest import SwitchAppended, SwitchRefused
from tidemill.events.registry import AliasChanged, VersionRegistered
from tidemill.events.spec import Applied
from tidemill.events.topics import control_topics
from tidemill.events.training import RunCompleted
from tidemill.settings import Settings
from tidemill.spec import Bundle
from tidemill.spec import load as load_spec
from tidemill.stack.state import Running, State
from tidemill.telemetry.files import traces_dir
from tidemill.trust import keys

FLIGHTS = Path(__file__).parents[2] / "usecases" / "flights"
MODEL, HASTY = "late-arrival", "hasty"
HOUR = 3_600_000_000
HEARD: dict[str, tuple[Sequence[type[Event]], Sequence[str]]] = {
    "registry": ((RunCompleted, ApprovalRequested, ApprovalDecided, SwitchAppended, SwitchRefused), registry_tables.MIGRATIONS),
    "governance": ((Applied, VersionRegistered, AliasChanged, DecisionSubmitted, SwitchRefused), governance_tables.MIGRATIONS),
}
E = TypeVar("E", bound=Event)


@dataclass
class Office:
    """Both services, a stream of their own, and an approver's key."""

    settings: Settings
    stream: str
    root: Path

    def say(self, *events: Event) -> None:
        with Publisher(self.settings, "test") as publisher:
            for event in events:
                publisher.publish(event)

    def said(self, kind: type[E], **about: Any) -> list[E]:
        """This stream's events of a kind whose fields are these, each once."""
        once = {heard.envelope.id: heard.event for heard in read_all(self.settings, [kind])}
        wanted = {"stream": self.stream, **about}
        return [e for e in once.values() if isinstance(e, kind) and all(getattr(e, n) == v for n, v in wanted.items())]

    def first(self, kind: type[E], **about: Any) -> E:
        """The first of these, as soon as it is there."""
        found: list[E] = until(lambda: self.said(kind, **about), f"{kind.__name__} {about}")
        return found[0]

    def tidemill(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tidemill.cli.main", *words, "--data-dir", str(self.settings.data_dir)]
        environment = {**os.environ, "COLUMNS": "200"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def json(self, *words: str) -> Any:
        done = self.tidemill(*words, "--output", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def decide(self, verb: str, approval: str, *words: str, name: str = "ann") -> subprocess.CompletedProcess[str]:
        key = str(self.root / "private" / f"{name}.pem")
        return self.tidemill("approvals", verb, approval, "--key", key, "--as", name, *words)

    def completed(self, model: str = MODEL, log_loss: float = 0.3, champion: int | None = None, at: int = HOUR) -> RunCompleted:
        """A run as training tells it; the figures are better than the baseline's and the champion's where `log_loss` is below 0.35."""
        return RunCompleted(
            run=str(uuid.uuid4()), stream=self.stream, model=model, cause_kind="manual", cause_id="c", requester="training",
            artifact="sha256:" + uuid.uuid4().hex * 2, report="sha256:" + "b" * 64, dataset="sha256:" + "d" * 64, code_digest="sha256:c",
            spec_digest=spec(self.stream).digest, seed=7, parameters={"eta": "0.1"}, rows=1_000, from_position=3, to_position=900,
            metrics={"log_loss": log_loss, "auc": 0.8, "calibration_error": 0.01}, baseline={"log_loss": 0.35},
            champion={"log_loss": 0.35} if champion else {}, champion_version=champion, effective_at=at, seconds=1.0,
        )  # fmt: skip

    def requested(self, **over: Any) -> ApprovalRequested:
        """A fresh version of which people were asked."""
        run = self.completed(**over)
        self.say(run)
        return self.first(ApprovalRequested, run=run.run)

    def switched(self, order: RolloutOrdered, offset: int, time: int | None = None) -> SwitchAppended:
        """What ingest says of an order that it has appended at this place, at this stream time."""
        shared = {name: getattr(order, name) for name in SwitchAppended.model_fields if name in RolloutOrdered.model_fields}
        return SwitchAppended(**shared | {"partition": 0, "offset": offset, "stream_time": time})

    def traced(self, name: str) -> set[str]:
        """The names of all spans on the way of what has this id."""
        return {name for tree in self.json("trace", name) for name in names(tree)}

    def aliases(self) -> dict[str, int]:
        found: dict[str, int] = self._registry(f"v1/models/{MODEL}")["aliases"]
        return found

    def parked(self) -> int:
        """How many events the registry keeps until what they rest on has come."""
        found: int = self._registry("health/ready")["parked"]
        return found

    def _registry(self, path: str) -> Any:
        state = State.read(self.settings.data_dir)
        assert state is not None
        return httpx.get(f"{state.services['registry'].url}/{path}").json()


def names(tree: dict[str, Any]) -> Iterator[str]:
    """The names of a printed tree's spans."""
    yield tree["name"]
    for child in tree["children"]:
        yield from names(child)


@pytest.fixture(scope="module")
def office(stack: Stack) -> Iterator[Office]:
    stack.topics(control_topics())
    root = Path(tempfile.mkdtemp(dir=stack.root))
    for name in ("ann", "bob"):
        keys.generate(name, root / "private", root / "trust" / "ops-review")
    settings, stream = stack.settings(trust_dir=root / "trust"), f"t-{uuid.uuid4().hex[:10]}"
    made = Office(settings, stream, root)
    with ExitStack() as services:
        running = {name: services.enter_context(service(stack, settings, name)) for name in HEARD}
        until(lambda: all(map(is_ready, running.values())), "both services to be ready")
        State(
            supervisor=Running.of(os.getpid()), kafka=stack.bootstrap, schema_registry=stack.registry_url, services=running
        ).write(settings.data_dir)
        bundle = spec(stream)
        made.say(Applied(stream=stream, digest=bundle.digest, author="bob", content=bundle.to_json(), applied_at=0))
        yield made


def spec(stream: str) -> Bundle:
    """The flights under another name, with a second model whose reviewers have one second."""
    content = load_spec(FLIGHTS).model_dump(mode="json", by_alias=True, exclude={"ids"})
    content["stream"]["stream"] = stream
    model = content["models"][MODEL] | {"trigger": f"{stream}.departure"}
    content["models"] = {MODEL: model, HASTY: model | {"model": HASTY, "approval": model["approval"] | {"deadline": "1s"}}}
    return Bundle.model_validate(content | {"author": "bob"})


@contextmanager
def service(stack: Stack, settings: Settings, name: str) -> Iterator[Running]:
    dsn, port = stack.new_database(), free_port()
    begin_here(dsn, settings, *HEARD[name])
    process = subprocess.Popen([sys.executable, "-m", f"services.{name}"], env=stack.environment(settings, dsn, port))
    try:
        yield Running.of(process.pid, f"http://127.0.0.1:{port}")
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def is_ready(service: Running) -> bool:
    assert service.process(), "it died at its start"
    try:
        return httpx.get(f"{service.url}/health/ready", timeout=5).is_success
    except httpx.HTTPError:
        return False


def test_a_rejected_version_has_its_lineage_and_its_reason_and_is_no_candidate_any_more(office: Office) -> None:
    asked = office.requested()
    until(lambda: office.aliases() == {"candidate": asked.version}, "the alias")
    (listed,) = [one for one in office.json("approvals", "list") if one["approval"] == asked.approval]
    assert (listed["state"], listed["version"], listed["author"], listed["approvers"]) == ("open", asked.version, "bob", [])
    shown = office.tidemill("approvals", "show", asked.approval).stdout
    assert "gate       passed  beats-baseline: log_loss 0.3000 is below the baseline's 0.3500" in shown
    done = office.decide("reject", asked.approval, "--reason", "odd weather")
    assert (done.returncode, done.stdout.strip()) == (0, "rejected by ann"), done.stderr
    (verdict,) = office.said(ApprovalDecided, approval=asked.approval)
    assert (verdict.verdict, verdict.reason, verdict.approvers) == ("rejected", "odd weather", ["ann"])
    until(lambda: office.aliases() == {}, "the alias to be gone")
    (version,) = [one for one in office.json("models", "show", MODEL)["versions"] if one["version"] == asked.version]
    lineage = ("cause_kind", "rows", "from_position", "to_position", "dataset", "code_digest", "parameters", "artifact")
    expected = ["manual", 1_000, 3, 900, "sha256:" + "d" * 64, "sha256:c", {"eta": "0.1"}, asked.artifact]
    assert [version[name] for name in lineage] == expected
    assert office.said(RolloutOrdered, run=asked.run) == []


def test_a_decision_needs_a_reason_a_pinned_key_and_clean_hands(office: Office) -> None:
    asked = office.requested()
    keys.generate("mallory", office.root / "private", office.root / "elsewhere")
    missing = office.decide("approve", asked.approval)
    assert missing.returncode == 2
    assert "--reason" in missing.stderr
    answers = {
        "no-reason": office.decide("approve", asked.approval, "--reason", "  "),
        "unknown-approver": office.decide("approve", asked.approval, "--reason", "fine", name="mallory"),
        "self-signed": office.decide("approve", asked.approval, "--reason", "fine", name="bob"),
    }
    assert {reason: (done.returncode, reason in done.stderr) for reason, done in answers.items()} == dict.fromkeys(
        answers, (1, True)
    )
    assert office.json("approvals", "show", asked.approval)["state"] == "open"
    unknown = office.tidemill("approvals", "show", "nothing")
    assert (unknown.returncode, "there is no approval request 'nothing'" in unknown.stderr) == (1, True)


def test_the_champion_is_whom_people_approved_from_its_place_in_the_log_on(office: Office) -> None:
    first, second = office.requested(), office.requested(at=40 * HOUR)
    assert office.first(ApprovalDecided, approval=first.approval).reason == f"superseded by version {second.version}"
    orders = list[RolloutOrdered]()
    for offset, time in ((40, 30 * HOUR), (90, 120 * HOUR)):  # the first earlier than it was due, the second later
        asked = office.requested(champion=second.version, at=90 * HOUR) if orders else second
        assert office.decide("approve", asked.approval, "--reason", "looks right").returncode == 0
        orders.append(office.first(RolloutOrdered, approval=asked.approval))
        office.say(office.switched(orders[-1], offset, time))
        office.first(AliasChanged, alias="champion", version=asked.version)
    old, new = (order.version for order in orders)
    assert [order.fallback for order in orders] == [None, old]
    assert [order.rollout for order in orders] == sorted(order.rollout for order in orders)
    (listed,) = [one for one in office.json("models", "list") if one["model"] == MODEL]
    assert (listed["newest"], listed["aliases"]) == (new, {"champion": new})
    assert [one["version"] for one in office.json("models", "at", "89")] == [old]
    assert [one["version"] for one in office.json("models", "at", "0:90", "--model", MODEL)] == [new]
    times = {"1970-01-02T06:00": old, "1970-01-04T18:00": old, "0:1970-01-06": new}
    assert {time: [one["version"] for one in office.json("models", "at", time)] for time in times} == {
        time: [version] for time, version in times.items()
    }
    (then,) = office.json("models", "at", "1970-01-06")
    assert (then["stream_time"], then["approval"]) == (120 * HOUR, orders[-1].approval)
    assert office.tidemill("models", "at", "1970-01-02T05:59").returncode == 1
    assert "1970-01-06 00:00:00" in office.tidemill("models", "show", MODEL).stdout
    early = office.tidemill("models", "at", "39")
    assert (early.returncode, "no version of any model served at 39 yet" in early.stderr) == (1, True)
    history = office.json("models", "show", MODEL)["history"]
    assert [(one["version"], one["position"]) for one in history] == [(old, 40), (new, 90)]
    again = office.decide("reject", orders[-1].approval, "--reason", "too late")
    assert (again.returncode, "approval-closed" in again.stderr) == (1, True)


def test_a_version_whose_order_ingest_refused_is_no_candidate_any_more_and_says_why(office: Office) -> None:
    before = office.aliases().get("champion")
    asked = office.requested(champion=before)
    assert office.decide("approve", asked.approval, "--reason", "looks right").returncode == 0
    order = office.first(RolloutOrdered, approval=asked.approval)
    shared = order.model_dump(include=set(SwitchRefused.model_fields))
    office.say(SwitchRefused(**shared, reason="expired"))
    moved = office.first(AliasChanged, alias="candidate", previous=asked.version)
    assert (moved.version, moved.approval) == (None, asked.approval)
    shown = office.json("models", "show", MODEL)
    assert ("candidate" in shown["aliases"], shown["aliases"].get("champion")) == (False, before)
    states = {one["version"]: (one["state"], one["reason"]) for one in shown["versions"]}
    assert states[asked.version] == ("refused", "expired")
    assert "refused: expired" in office.tidemill("models", "show", MODEL).stdout
    if before is not None:
        assert states[before] == ("served", "")


def test_a_switch_that_nobody_approved_makes_no_champion(office: Office) -> None:
    before, parked = office.aliases().get("champion"), office.parked()
    asked = office.requested(champion=before)
    order = RolloutOrdered(
        **asked.model_dump(include=set(RolloutOrdered.model_fields)), order="o", expires=0, envelopes=[], fallback=None
    )
    office.say(office.switched(order, 200))
    until(lambda: office.parked() == parked + 1, "that the registry waits for the approval")
    assert office.aliases().get("champion") == before
    assert 200 not in [one["position"] for one in office.json("models", "show", MODEL)["history"]]


def test_a_request_lapses_at_its_deadline(office: Office) -> None:
    asked = office.requested(model=HASTY)
    verdict = office.first(ApprovalDecided, approval=asked.approval)
    assert (verdict.verdict, verdict.reason, verdict.approvers) == ("lapsed", "nobody decided before the deadline", [])
    assert verdict.decided_at >= asked.deadline
    assert asked.deadline - asked.requested_at == 1_000_000
    moves = until(lambda: len(found := office.said(AliasChanged, model=HASTY)) == 2 and found, "the candidate's coming and going")
    assert [(one.alias, one.version) for one in moves] == [("candidate", asked.version), ("candidate", None)]
    late = office.decide("approve", asked.approval, "--reason", "fine")
    assert (late.returncode, "lapsed already" in late.stderr) == (1, True)


def test_when_a_decision_came_is_asked_of_the_broker(office: Office) -> None:
    asked = office.requested(champion=office.aliases().get("champion"))
    assert office.decide("reject", asked.approval, "--reason", "odd weather").returncode == 0
    heard = read_all(office.settings, [DecisionSubmitted])[-1]
    assert getattr(heard.event, "approval", None) == asked.approval
    meta = Meta("", 0, 0, topic=heard.topic, partition=heard.partition, offset=heard.offset)
    assert governance_tables.Arrivals(office.settings, meta).taken() == heard.at


def test_a_version_that_fails_a_gate_is_never_asked_about(office: Office) -> None:
    run = office.completed(log_loss=0.4, champion=office.aliases().get("champion"))
    office.say(run)
    failed = office.first(GateFailed, run=run.run)
    assert [gate.name for gate in failed.gates if not gate.passed] == ["beats-baseline", "beats-champion"]
    assert office.said(ApprovalRequested, run=run.run) == []


def test_a_name_that_two_streams_have_is_asked_back(office: Office) -> None:
    runs = [office.completed("twin"), office.completed("twin").model_copy(update={"stream": f"{office.stream}-2"})]
    office.say(*runs)
    until(lambda: [one["newest"] for one in office.json("models", "list") if one["model"] == "twin"] == [1, 1], "both versions")
    unclear = office.tidemill("models", "show", "twin")
    assert (unclear.returncode, f"several streams have a model 'twin': {office.stream}, {runs[1].stream}" in unclear.stderr) == (
        1,
        True,
    )
    shown = [office.json("models", "show", "twin", "--stream", run.stream)["versions"] for run in runs]
    assert [[one["run"] for one in versions] for versions in shown] == [[run.run] for run in runs]
    nowhere = office.tidemill("models", "show", "twin", "--stream", "elsewhere")
    assert (nowhere.returncode, "there is no model 'twin' of elsewhere" in nowhere.stderr) == (1, True)


def test_a_decision_can_be_followed_where_a_services_spans_were_lost(office: Office) -> None:
    asked = office.requested(champion=office.aliases().get("champion"))
    assert office.decide("approve", asked.approval, "--reason", "looks right").returncode == 0
    order = office.first(RolloutOrdered, approval=asked.approval)
    office.say(office.switched(order, 300))
    until(lambda: office.aliases().get("champion") == asked.version, "the switch")
    kept, heard = "process governance.approval-decided.v1", "process governance.decision-submitted.v1"
    until(lambda: {kept, heard} <= office.traced(order.order), "both services' spans")
    traces_dir(office.settings.data_dir).joinpath("governance.jsonl").unlink()
    found = office.traced(order.order)
    assert heard not in found
    assert {
        kept,
        *(f"send {kind.ce_type()}" for kind in (ApprovalRequested, ApprovalDecided, RolloutOrdered, SwitchAppended)),
    } <= found
