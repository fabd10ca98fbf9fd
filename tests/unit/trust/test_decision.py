"""Which decisions serving, ingest and governance believe."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.errors import Refused
from tidemill.trust import dsse, keys
from tidemill.trust.decision import Policy, Subject, verify, verify_one
from tidemill.trust.statement import Decision, Statement, question

SUBJECT = Subject(
    "flights", "late-arrival", 3, "sha256:" + "ab" * 32, "sha256:" + "cd" * 32, "promote", 7, 50, "approval-1", "run-1"
)
POLICY = Policy("ops-review", 1)
EXPIRES = 1_000


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trust")
    for name in ("ann", "bob", "training"):
        keys.generate(name, root / "private", root / "pinned" / "ops-review")
    keys.generate("mallory", root / "private", root / "elsewhere")
    return root


def ring(trust: Path) -> keys.KeyRing:
    return keys.KeyRing.load(trust / "pinned")


def statement(verdict: str = "approve", requester: str = "training", author: str = "carol", **over: object) -> Statement:
    subject = replace(SUBJECT, **over)  # type: ignore[arg-type]
    decision = Decision(
        stream=subject.stream,
        model=subject.model,
        version=subject.version,
        report=subject.report,
        action=subject.action,
        rollout=subject.rollout,
        effective_at=subject.effective_at,
        approval=subject.approval,
        run=subject.run,
        requester=requester,
        author=author,
        expires=EXPIRES,
        reason="looks right",
    )
    return Statement.of(subject.artifact, decision).decided(verdict, "looks right")  # type: ignore[arg-type]


def signed(trust: Path, name: str, said: Statement | None = None, keyid: str | None = None) -> str:
    key = keys.load_private(trust / "private" / f"{name}.pem")
    return dsse.sign((said or statement()).text().encode(), key, keyid or name)


def reason(trust: Path, *envelopes: str, policy: Policy = POLICY) -> str:
    with pytest.raises(Refused) as refused:
        verify(envelopes, ring(trust), policy, SUBJECT)
    return refused.value.reason


def test_a_decision_signed_by_a_pinned_approver_holds(trust: Path) -> None:
    said = verify([signed(trust, "ann")], ring(trust), POLICY, SUBJECT)
    assert (said.approvers, said.expires) == (("ann",), EXPIRES)


def test_a_key_that_nobody_pinned_decides_nothing(trust: Path) -> None:
    assert reason(trust, signed(trust, "mallory")) == "unknown-approver"


def test_a_forged_signature_under_a_known_name_decides_nothing(trust: Path) -> None:
    assert reason(trust, signed(trust, "mallory", keyid="ann")) == "bad-signature"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rollout", 6),
        ("version", 2),
        ("approval", "approval-0"),
        ("artifact", "sha256:" + "00" * 32),
        ("report", "sha256:" + "00" * 32),
        ("action", "revoke"),
        ("model", "other"),
        ("stream", "other"),
        ("effective_at", 49),
        ("run", "run-0"),
    ],
)
def test_a_decision_about_something_else_cannot_be_replayed(trust: Path, field: str, value: object) -> None:
    assert reason(trust, signed(trust, "ann", statement(**{field: value}))) == "other-subject"


def test_an_expired_decision_is_refused_where_the_clock_is_asked(trust: Path) -> None:
    envelope = signed(trust, "ann")
    assert verify_one(envelope, ring(trust), POLICY, SUBJECT, now_us=EXPIRES)[0] == "ann"
    with pytest.raises(Refused, match="expired"):
        verify_one(envelope, ring(trust), POLICY, SUBJECT, now_us=EXPIRES + 1)


def test_a_question_is_the_same_whatever_is_answered_and_however_it_is_written() -> None:
    asked = statement()
    spaced = json.dumps(json.loads(asked.decided("reject", "no").text()), indent=2)
    assert question(spaced) == asked.question
    other = asked.model_copy(update={"predicate": asked.predicate.model_copy(update={"expires": EXPIRES + 1})})
    assert other.question != asked.question
    with pytest.raises(Refused, match="bad-statement"):
        question("{}")


@pytest.mark.parametrize("role", ["requester", "author"])
def test_nobody_decides_about_their_own_request(trust: Path, role: str) -> None:
    assert reason(trust, signed(trust, "ann", statement(**{role: "ann"}))) == "self-signed"  # type: ignore[arg-type]


def test_who_is_barred_decides_nothing_whatever_they_claim(trust: Path) -> None:
    claimed = statement(author="somebody-else")
    assert reason(trust, signed(trust, "ann", claimed), policy=replace(POLICY, barred=frozenset({"ann"}))) == "self-signed"
    verify([signed(trust, "bob", claimed)], ring(trust), replace(POLICY, barred=frozenset({"ann"})), SUBJECT)


def test_a_rejection_is_no_approval(trust: Path) -> None:
    assert reason(trust, signed(trust, "ann", statement("reject"))) == "not-approved"


def test_one_person_twice_is_one_approver(trust: Path) -> None:
    assert reason(trust, signed(trust, "ann"), signed(trust, "ann"), policy=Policy("ops-review", 2)) == "too-few-approvers"
    verify([signed(trust, "ann"), signed(trust, "bob")], ring(trust), Policy("ops-review", 2), SUBJECT)


def test_nothing_signed_decides_nothing(trust: Path) -> None:
    assert reason(trust) == "too-few-approvers"


def test_a_key_file_is_private_and_never_replaced(trust: Path) -> None:
    assert (trust / "private" / "ann.pem").stat().st_mode & 0o077 == 0
    with pytest.raises(Refused, match="exists"):
        keys.generate("ann", trust / "private", trust / "pinned" / "ops-review")


@given(st.data())
def test_no_changed_byte_of_the_statement_survives(trust: Path, data: st.DataObject) -> None:
    envelope = json.loads(signed(trust, "ann"))
    payload = bytearray(base64.b64decode(envelope["payload"]))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    envelope["payload"] = base64.b64encode(payload).decode()
    assert reason(trust, json.dumps(envelope)) == "bad-signature"


@pytest.mark.parametrize("text", ["[" * 60_000, "{" * 100, '{"payload":' * 5_000, "x" * 70_000])
def test_an_envelope_made_to_exhaust_its_reader_is_refused(trust: Path, text: str) -> None:
    assert reason(trust, text) == "bad-envelope"


@given(st.text() | st.binary().map(repr) | st.just("{}") | st.just('{"signatures": []}'))
def test_what_is_no_envelope_is_refused(trust: Path, text: str) -> None:
    assert reason(trust, text) == "bad-envelope"
