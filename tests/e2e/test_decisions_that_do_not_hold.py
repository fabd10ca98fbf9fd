"""The whole stack, and decisions written straight to its topics: none that is forged, replayed, expired, overdue or self-signed counts."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pytest
import yaml

from tests.e2e import chaos_audit as audit
from tests.e2e.chaos_site import APPROVER, DAY, GROUP, MODEL, Ends, Site, new_site, until
from tests.e2e.test_chaos_of_decisions import sooner
from tests.unit.ingest.orders import prepared
from tidemill.bus.control_client import Heard, Publisher, read_all
from tidemill.bus.producer import gapless
from tidemill.cli.http import get
from tidemill.events import log_header, wire
from tidemill.events.base import Event
from tidemill.events.columnar import Decoder
from tidemill.events.deadletters import DeadLetter
from tidemill.events.governance import ApprovalDecided, ApprovalRequested, DecisionSubmitted, GateFailed, RolloutOrdered
from tidemill.events.ingest import SwitchAppended, SwitchRefused
from tidemill.events.log import ModelSwitched
from tidemill.events.predictions import Prediction
from tidemill.feed.session import Session
from tidemill.settings import Settings
from tidemill.trust import dsse, keys
from tidemill.trust.statement import parse

STREAM, HOPELESS = "flights", "hopeless"
AUTHOR, REQUESTER, STRANGER = "bob", "carol", "mallory"
"""The author of the spec and who asks for the second run are approvers too; nobody has pinned the stranger's key."""
E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Attack:
    """A decision about version 2 that does not hold: who signs it, in whose name, with which lies; and what it is answered."""

    name: str
    signer: str
    answer: str
    keyid: str = ""
    lies: dict[str, Any] = field(default_factory=dict)


REPLAYED = Attack("replayed", APPROVER, "other-subject")
"""Version 1's own decision."""
ATTACKS = (
    Attack("forged by a stranger", STRANGER, "unknown-approver"),
    Attack("forged in an approver's name", STRANGER, "bad-signature", keyid=APPROVER),
    REPLAYED,
    Attack("expired", APPROVER, "expired", lies={"expires": 1}),
    Attack("signed by the requester", REQUESTER, "self-signed"),
    Attack("signed by the requester, who denies it", REQUESTER, "self-signed", lies={"requester": "x"}),
    Attack("signed by the author", AUTHOR, "self-signed"),
    Attack("signed by the author, who denies it", AUTHOR, "self-signed", lies={"author": "x"}),
)

DENIALS = (
    Attack("a lapse that governance never said", STRANGER, ""),
    Attack("an unsigned rejection", STRANGER, "not-rejected"),
    Attack("a stranger's rejection", STRANGER, "unknown-approver"),
    Attack("a rejection in an approver's name", STRANGER, "bad-signature", keyid=APPROVER),
    Attack("the requester's rejection", REQUESTER, "self-signed", lies={"requester": "x"}),
    Attack("the author's rejection", AUTHOR, "self-signed", lies={"author": "x"}),
    Attack("a rejection of another version", APPROVER, "other-subject", lies={"version": 1}),
)
"""Of version 2's request, whose deadline is far: nobody who may has rejected it. A lapse has no signature that could be refused."""
LAPSE, UNSIGNED = DENIALS[:2]
OVERDUE = (Attack("lapsed", APPROVER, "lapsed"), Attack("rejected", APPROVER, "rejected"))
"""Signed well, but after the request had come to this."""


@dataclass
class Scene:
    """A stack in which version 1 serves and version 2 waits for people."""

    site: Site
    settings: Settings
    session: Session
    departures: int
    """So many were sent."""
    first: ApprovalDecided
    asked: ApprovalRequested

    def envelope(self, attack: Attack, verdict: Literal["approve", "reject"] = "approve") -> str:
        """The signed statement."""
        if attack is REPLAYED:
            return self.first.envelopes[0]
        said = parse(self.asked.statement.encode()).decided(verdict, "fine")
        said = said.model_copy(update={"predicate": said.predicate.model_copy(update=attack.lies)})
        key = keys.load_private(self.site.home / "private" / f"{attack.signer}.pem")
        return dsse.sign(said.text().encode(), key, attack.keyid or attack.signer)

    def denials(self, attack: Attack) -> list[Event]:
        """The attack as what is to end the request: a verdict, and the decision where one is signed."""
        asked, keyid, signed = self.asked, attack.keyid or attack.signer, attack not in (LAPSE, UNSIGNED)
        envelopes = [self.envelope(attack, "reject")] if signed else []
        verdict = ApprovalDecided(
            approval=asked.approval, stream=STREAM, model=MODEL, version=asked.version, run=asked.run,
            verdict="lapsed" if attack is LAPSE else "rejected", approvers=[keyid], reason="fine", envelopes=envelopes, decided_at=0,
        )  # fmt: skip
        decisions = [
            DecisionSubmitted(approval=asked.approval, approver=keyid, verdict="reject", reason="fine", envelope=text)
            for text in envelopes
        ]
        return [verdict, *decisions]

    def events(self, attack: Attack) -> tuple[DecisionSubmitted, ApprovalDecided, RolloutOrdered]:
        """The attack as a decision, as a verdict, and as an order."""
        envelope, asked, keyid = self.envelope(attack), self.asked, attack.keyid or attack.signer
        shared = {name: getattr(asked, name) for name in RolloutOrdered.model_fields if name in ApprovalRequested.model_fields}
        return (
            DecisionSubmitted(approval=asked.approval, approver=keyid, verdict="approve", reason="fine", envelope=envelope),
            ApprovalDecided(
                approval=asked.approval, stream=STREAM, model=MODEL, version=asked.version, run=asked.run, verdict="approved",
                approvers=[keyid], reason="fine", envelopes=[envelope], decided_at=time.time_ns() // 1000,
            ),
            RolloutOrdered(**shared, order=attack.name, fallback=None, expires=2**60, envelopes=[envelope]),
        )  # fmt: skip

    def feed(self, days: int) -> None:
        """Replay up to so many days, whatever is open, and wait for all predictions: one for each of the two models."""
        sent = self.session.run(self.session.timeline.first + days * DAY, hold=False)
        self.session.begin, self.departures = sent.until, self.departures + sent.events["departures"]
        ends = Ends(self.settings)
        until(lambda: ends(f"predictions.{STREAM}") == 2 * self.departures, "the predictions")
        ends.close()


def said(settings: Settings, kind: type[E], **about: Any) -> list[E]:
    """All events of a kind whose fields are these, each once."""
    once = {heard.envelope.id: heard.event for heard in read_all(settings, [kind])}
    return [e for e in once.values() if isinstance(e, kind) and all(getattr(e, n) == v for n, v in about.items())]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with new_site() as site:
        for name in (AUTHOR, REQUESTER):
            keys.generate(name, site.home / "private", site.home / "trust" / GROUP)
        keys.generate(STRANGER, site.home / "private", site.home / "elsewhere")
        folder = two_models(sooner(site.home / "flights"))
        with site.up() as settings:
            site.tidemill("apply", str(folder), "--author", AUTHOR)
            session = Session(settings, folder, [ApprovalRequested])
            departures = first_version(site, session)
            (first,) = said(settings, ApprovalDecided)
            site.tidemill("retrain", MODEL, "--as", REQUESTER, "--reason", "new aircraft")
            (asked,) = until(lambda: said(settings, ApprovalRequested, version=2), "that people are asked about version 2")
            yield Scene(site, settings, session, departures, first, asked)
            session.close()


def two_models(folder: Path) -> Path:
    """Beside the model that may serve, one that asks for the same but has a gate that nothing can pass."""
    file = folder / "models" / f"{MODEL}.yaml"
    model = yaml.safe_load(file.read_text())
    causes = model["retrain"]["on"]
    file.write_text(yaml.safe_dump(model | {"retrain": model["retrain"] | {"on": [*causes, "manual"]}}, sort_keys=False))
    gates = {"sane": model["gates"]["sane"], "perfect": {"metric": "log_loss", "on": "test", "below": 1e-9}}
    other = model | {"model": HOPELESS, "gates": gates}
    (folder / "models" / f"{HOPELESS}.yaml").write_text(yaml.safe_dump(other, sort_keys=False))
    return folder


def first_version(site: Site, session: Session) -> int:
    """Feed ten days; as soon as people are asked about the first version, one of them approves it. How many departures were sent."""

    def hear(heard: Heard) -> None:
        if isinstance(heard.event, ApprovalRequested):
            decide(site, heard.event.approval)

    sent = session.run(session.timeline.first + 10 * DAY, hear=hear)
    session.begin = sent.until
    return sent.events["departures"]


def decide(site: Site, approval: str, verb: str = "approve", name: str = APPROVER) -> None:
    key = site.home / "private" / f"{name}.pem"
    site.tidemill("approvals", verb, approval, "--as", name, "--key", str(key), "--reason", "I have looked at it")


def asked_again(scene: Scene, version: int) -> ApprovalRequested:
    """The request about a version that somebody without a key has asked for."""
    scene.site.tidemill("retrain", MODEL, "--as", STRANGER, "--reason", "newer aircraft")
    (asked,) = until(
        lambda: said(scene.settings, ApprovalRequested, version=version), f"that people are asked about version {version}"
    )
    return asked


def served(settings: Settings, model: str) -> list[int]:
    """The versions that the model's predictions name, in order, each run of one once."""
    frame = Decoder(Prediction.SCHEMA).decode(audit.taken(settings, "predictions", STREAM).batch.values).frame
    versions = frame.filter(frame["model"] == model)["version"].fill_null(0).to_numpy()
    return versions[np.flatnonzero(np.diff(versions, prepend=-1))].tolist()


def switches(settings: Settings) -> int:
    rows, _ = audit.valid(audit.messages_of(settings, f"log.{STREAM}"))
    return int(np.count_nonzero(rows["kind"] == log_header.MODEL_SWITCHED))


def test_a_candidate_that_fails_its_gate_is_refused_with_its_figures(scene: Scene) -> None:
    (failed,) = said(scene.settings, GateFailed)
    assert (failed.model, failed.version) == (HOPELESS, 1)
    figures = {gate.name: (gate.passed, gate.bound) for gate in failed.gates}
    assert figures == {"sane": (True, 0.7), "perfect": (False, 1e-9)}
    assert all(gate.value and 0 < gate.value < 0.7 for gate in failed.gates)
    for kind in (ApprovalRequested, ApprovalDecided, RolloutOrdered, SwitchAppended):
        assert said(scene.settings, kind, model=HOPELESS) == []
    assert served(scene.settings, HOPELESS) == [0]


def test_what_does_not_hold_is_answered_and_changes_nothing_that_serves(scene: Scene) -> None:
    settings = scene.settings
    with Publisher(settings, "attacker") as publisher:
        for attack in ATTACKS:
            publisher.publish(prepared(scene.events(attack)[-1], 0))  # whoever may write an order may say that all is ready for it
        sent = {publisher.publish(event): attack.name for attack in ATTACKS for event in scene.events(attack)}
    letters = until(lambda: len(found := dead(settings)) == 2 * len(ATTACKS) and found, "the dead letters")
    refusals = until(lambda: len(found := said(settings, SwitchRefused)) == len(ATTACKS) and found, "the refusals")
    answers = {(sent[event_id(letter)], letter.topic.split(".")[1]): letter.reason for letter in letters}
    assert answers == {(one.name, way): one.answer for one in ATTACKS for way in ("decision-submitted", "approval-decided")}
    assert {refused.order: refused.reason for refused in refusals} == {one.name: one.answer for one in ATTACKS}
    scene.feed(12)
    assert (switches(settings), served(settings, MODEL)) == (1, [0, 1])


def test_nobody_ends_a_request_that_people_have_not_answered(scene: Scene) -> None:
    """What is said of it here comes before the approval, which the next test shows to be followed nevertheless."""
    settings, asked = scene.settings, scene.asked
    before = {event_id(letter) for letter in dead(settings)}
    harder = {"deadline": 1, "required": 9, "group": "nobody", "author": APPROVER}
    with Publisher(settings, "attacker") as publisher:
        sent = {publisher.publish(event): attack.answer for attack in DENIALS for event in scene.denials(attack)}
        sent[publisher.publish(asked.model_copy(update=harder))] = "other-terms"
    wanted = Counter(answer for answer in sent.values() if answer)
    letters = until(
        lambda: len(found := [one for one in dead(settings) if event_id(one) not in before]) == wanted.total() and found,
        "the dead letters",
    )
    assert Counter(letter.reason for letter in letters) == wanted
    assert get(settings, "governance", f"/v1/approvals/{asked.approval}")["state"] == "open"


def test_then_a_decision_that_holds_is_followed_and_the_chain_remembers_only_those(scene: Scene) -> None:
    decide(scene.site, scene.asked.approval)
    until(lambda: said(scene.settings, SwitchAppended, version=2), "the switch")
    scene.feed(13)
    assert (switches(scene.settings), served(scene.settings, MODEL)) == (2, [0, 1, 2])
    until(lambda: get(scene.settings, "registry", f"/v1/models/{MODEL}")["aliases"]["champion"] == 2, "that the registry knows it")
    chain = scene.site.home / "chain.jsonl"
    scene.site.tidemill("audit", "verify")
    scene.site.tidemill("audit", "export", str(chain))
    scene.site.tidemill("audit", "verify", "--file", str(chain))
    links = [json.loads(line) for line in chain.read_text().splitlines()]
    signers = [json.loads(link["detail"])["approver"] for link in links if link["kind"] == "decision-signed"]
    assert signers == [APPROVER, APPROVER]


def test_a_good_signature_makes_no_switch_of_a_request_that_lapsed_or_was_rejected(scene: Scene) -> None:
    settings, lapsed = scene.settings, asked_again(scene, 3)
    scene.feed(14)
    rejected = asked_again(scene, 4)  # which takes the other's place
    decide(scene.site, rejected.approval, "reject", REQUESTER)
    verdicts = {one.approval: one.verdict for one in said(settings, ApprovalDecided)}
    assert (verdicts[lapsed.approval], verdicts[rejected.approval]) == ("lapsed", "rejected")
    with Publisher(settings, "attacker") as publisher:
        for attack, asked in zip(OVERDUE, (lapsed, rejected), strict=True):
            *_, order = replace(scene, asked=asked).events(attack)
            publisher.publish(prepared(order, 0))
            publisher.publish(order)
    names = {one.name for one in OVERDUE}
    refusals = until(
        lambda: len(found := [one for one in said(settings, SwitchRefused) if one.order in names]) == len(names) and found,
        "the refusals",
    )
    assert {refused.order: refused.reason for refused in refusals} == {one.name: one.answer for one in OVERDUE}
    scene.feed(15)
    assert (switches(settings), served(settings, MODEL)) == (2, [0, 1, 2])


def test_a_switch_forged_in_the_log_itself_is_ignored_counted_and_told(scene: Scene) -> None:
    """Nobody feeds the stream after this: the forger has used numbers of the log's writer."""
    settings, forged = scene.settings, scene.envelope(ATTACKS[0])
    rows, messages = audit.valid(audit.messages_of(settings, f"log.{STREAM}"))
    genuine = [messages[at].value() or b"" for at in np.flatnonzero(rows["kind"] == log_header.MODEL_SWITCHED).tolist()]
    append(settings, rows[-1], [genuine[0], switched(genuine[1], rollout=9, envelopes=[forged])])
    wanted = {"flights": {"old-rollout": 1, "unknown-approver": 1}}
    until(lambda: scene.site.status()["serving"]["switches_ignored"] == wanted, "that serving says it")
    assert switches(settings) == 4


def append(settings: Settings, newest: np.void, values: list[bytes]) -> None:
    """Control records behind the newest one of the log, as if its writer had written them."""
    heads = np.full(len(values), newest)
    heads["kind"], heads["source"], heads["raw_offset"] = log_header.MODEL_SWITCHED, log_header.CONTROL, -1
    heads["seq"] += np.arange(1, len(values) + 1)
    sender = gapless(settings, "forger")
    sender.send(f"log.{STREAM}", 0, [None] * len(values), values, [[(log_header.HEADER, head.tobytes())] for head in heads])
    assert sender.flush(30)


def switched(value: bytes, **lies: Any) -> bytes:
    """A switch of the log that says some things otherwise."""
    said = wire.decode_datum(value[5:], wire.parsed(ModelSwitched))
    return value[:5] + wire.datum(ModelSwitched.model_validate(said | lies))


def dead(settings: Settings) -> list[DeadLetter]:
    return [letter for letter in said(settings, DeadLetter) if letter.topic.startswith("governance.")]


def event_id(letter: DeadLetter) -> str:
    return {header.name: header.value for header in letter.headers}["ce_id"].decode()
