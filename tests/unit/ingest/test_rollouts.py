"""R12: which orders become switches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.ingest import handlers
from services.ingest.handlers import Judges, Ready, Rollouts
from services.ingest.model import Lane, State, Switch, Switched
from services.ingest.step.snapshot import dump, load
from tests.unit.ingest.orders import (
    EXPIRES,
    asked,
    declined,
    generate,
    heard,
    ordered,
    prepared,
    rejected,
    submitted,
    taken,
    with_model,
)
from tests.unit.ingest.world import NOW, SECOND, Log, Writer, arrival, bundle, event
from tidemill.events import log_header
from tidemill.events.governance import DecisionSubmitted
from tidemill.trust.keys import KeyRing


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("trust")
    generate(made)
    return made


def state() -> State:
    return State("world", 0, bundle=with_model(bundle()))


def ready(
    root: Path, rollouts: Rollouts, of: State | None = None, shards: int = 1, now: int = NOW, requester: str = "training"
) -> Ready:
    return handlers.ready(rollouts, of or state(), Judges(KeyRing.load(root / "pinned"), lambda _: requester), shards, now)


def rollouts(*said: Any, shards: tuple[int, ...] = (0,), fresh: bool = True) -> Rollouts:
    found = Rollouts()
    for one in said:
        handlers.on_rollout_ordered(heard(one, fresh), found)
        handlers.on_model_prepared(prepared(one, *shards), found)
    return found


def reasons(found: Ready) -> list[str]:
    assert found.switches == []
    return [reason for _, reason in found.refused]


def test_an_order_waits_until_every_partition_is_prepared(root: Path) -> None:
    order = ordered(root)
    heard_of = rollouts(order, shards=(0,))
    assert ready(root, heard_of, shards=2) == Ready([], [])
    handlers.on_model_prepared(prepared(order, 1), heard_of)
    (switch,) = ready(root, heard_of, shards=2).switches
    assert (switch.event.order, switch.event.rollout, switch.event.expires) == ("o1", 1, EXPIRES)


def test_what_serving_prepared_for_another_artifact_does_not_count(root: Path) -> None:
    order = ordered(root)
    heard_of = Rollouts()
    handlers.on_rollout_ordered(heard(order), heard_of)
    handlers.on_model_prepared(prepared(ordered(root, rollout=2), 0), heard_of)
    assert ready(root, heard_of) == Ready([], [])


def test_who_requested_the_run_is_asked_of_the_artifact_though_somebody_says_that_serving_is_ready(root: Path) -> None:
    assert reasons(ready(root, rollouts(ordered(root)), requester="ann")) == ["self-signed"]


@pytest.mark.parametrize(
    ("over", "reason"),
    [
        ({"signer": "mallory"}, "unknown-approver"),
        ({"signer": "training"}, "self-signed"),
        ({"artifact": "sha256:" + "00" * 32}, "other-subject"),
        ({"version": 9}, "other-subject"),
        ({"effective_at": 1}, "other-subject"),
        ({"run": "r9"}, "other-subject"),
        ({"model": "n"}, "unknown-model"),
        ({"action": "explode"}, "unknown-action"),
        ({"envelopes": []}, "too-few-approvers"),
        ({"expires": NOW - 1}, "expired"),
    ],
)
def test_a_decision_that_does_not_hold_is_refused_before_anybody_prepares(root: Path, over: dict[str, Any], reason: str) -> None:
    heard_of = Rollouts()
    handlers.on_rollout_ordered(heard(ordered(root, **over)), heard_of)
    assert reasons(ready(root, heard_of)) == [reason]


def test_an_order_may_not_soften_the_specs_policy(root: Path) -> None:
    heard_of = rollouts(ordered(root, signer="mallory", group="elsewhere", required=0))
    assert reasons(ready(root, heard_of)) == ["unknown-approver"]


def test_the_specs_author_decides_nothing_whatever_the_statement_says(root: Path) -> None:
    by_ann = State("world", 0, bundle=with_model(bundle()).model_copy(update={"author": "ann"}))
    assert reasons(ready(root, rollouts(ordered(root)), by_ann)) == ["self-signed"]


def test_a_replayed_decision_with_another_number_is_refused(root: Path) -> None:
    assert reasons(ready(root, rollouts(ordered(root, order="o2").model_copy(update={"rollout": 2})))) == ["other-subject"]


def test_a_lower_number_than_the_logs_is_refused_once_and_never_for_an_old_order(root: Path) -> None:
    (switch,) = ready(root, rollouts(ordered(root, rollout=5, order="o5"))).switches
    after = state()
    after.switches["m"] = Switched(switch.event, 7, 0)
    assert reasons(ready(root, rollouts(ordered(root, rollout=4, order="o4")), after)) == ["stale-rollout"]
    assert reasons(ready(root, rollouts(ordered(root, rollout=4, order="o4"), fresh=False), after)) == []
    assert reasons(ready(root, rollouts(ordered(root, rollout=5, order="o5")), after)) == []


def test_a_forged_order_under_the_id_of_a_genuine_one_takes_nothing_from_it(root: Path) -> None:
    forged, genuine = ordered(root, signer="mallory"), ordered(root)
    heard_of = rollouts(forged, genuine)
    handlers.on_model_refused(declined(forged, "unknown-approver"), heard_of)
    found = ready(root, heard_of)
    assert [switch.event.envelopes for switch in found.switches] == [genuine.envelopes]
    assert [(order.said, reason) for order, reason in found.refused] == [(forged, "unknown-approver")]
    after = state()
    after.switches["m"] = Switched(found.switches[0].event, 7, 0)
    assert reasons(ready(root, heard_of, after)) == ["stale-rollout"]
    assert handlers.refused(heard(forged), "x")[0] != handlers.refused(heard(genuine), "x")[0]


def test_what_serving_refuses_is_refused(root: Path) -> None:
    order = ordered(root)
    heard_of = Rollouts()
    handlers.on_rollout_ordered(heard(order), heard_of)
    handlers.on_model_refused(declined(order, "bad-digest"), heard_of)
    assert reasons(ready(root, heard_of)) == ["serving: bad-digest"]


def reviewed(
    order: Any, *decisions: tuple[DecisionSubmitted, int], asked_at: int = NOW - 9, at: int = NOW, **request: Any
) -> Rollouts:
    """An order that the broker took at `at`, its request, and decisions with the times of theirs."""
    found = Rollouts()
    handlers.on_approval_requested(asked(order, **request), asked_at, found)
    for said, when in decisions:
        handlers.on_decision_submitted(taken(said, when), found)
    handlers.on_rollout_ordered(heard(order, at=at), found)
    handlers.on_model_prepared(prepared(order, 0), found)
    return found


def test_a_good_signature_makes_no_order_of_a_request_that_somebody_had_rejected(root: Path) -> None:
    order = ordered(root)
    rejection, approval = (rejected(root, order), NOW - 5), submitted(order.envelopes[0])
    assert reasons(ready(root, reviewed(order, rejection))) == ["rejected"]
    assert reasons(ready(root, reviewed(order, rejection, (approval, NOW - 4)))) == ["rejected"]
    assert len(ready(root, reviewed(order, (approval, NOW - 6), rejection)).switches) == 1


@pytest.mark.parametrize(
    "forged",
    [
        {"signer": "mallory"},
        {"signer": "mallory", "keyid": "bob"},
        {"signer": "training"},
        {"signer": "training", "requester": "x"},
        {"signer": "author"},
        {"signer": "author", "author": "x"},
        {"version": 9},
        {"run": "r9"},
        {"approval": "p9"},
    ],
)
def test_a_rejection_counts_only_where_one_who_may_decide_has_signed_it(root: Path, forged: dict[str, Any]) -> None:
    order = ordered(root)
    by_author = State("world", 0, bundle=with_model(bundle()).model_copy(update={"author": "author"}))
    assert len(ready(root, reviewed(order, (rejected(root, order, **forged), NOW - 5)), by_author).switches) == 1
    assert reasons(ready(root, reviewed(order, (rejected(root, order), NOW - 5)), by_author)) == ["rejected"]


def test_a_rejection_of_another_request_says_nothing_of_an_order(root: Path) -> None:
    other = rejected(root, ordered(root, rollout=2)).model_copy(update={"approval": "p1"})
    assert len(ready(root, reviewed(ordered(root), (other, NOW - 5))).switches) == 1


def test_signatures_that_come_after_the_deadline_make_no_order_and_those_in_time_do_however_late_governance_is(root: Path) -> None:
    order = ordered(root)
    approval, spaced = submitted(order.envelopes[0]), json.dumps(json.loads(order.envelopes[0]), indent=1)
    assert reasons(ready(root, reviewed(order, deadline=NOW - 1))) == ["lapsed"]
    assert reasons(ready(root, reviewed(order, (approval, NOW), at=NOW + SECOND, deadline=NOW - 1))) == ["lapsed"]
    assert len(ready(root, reviewed(order, (approval, NOW), at=NOW + SECOND, deadline=NOW)).switches) == 1
    again = order.model_copy(update={"envelopes": [spaced]})
    assert reasons(ready(root, reviewed(again, (approval, NOW), at=NOW + SECOND, deadline=NOW))) == ["lapsed"]


def test_a_forged_request_moves_no_deadline(root: Path) -> None:
    order = ordered(root)
    for deadline, switches in ((NOW, 1), (NOW - 1, 0)):
        heard_of = rollouts(order)
        for forged in (
            ordered(root, expires=EXPIRES - 1),
            ordered(root, expires=EXPIRES + 1),
        ):  # before it is asked, nobody knows what
            handlers.on_approval_requested(asked(forged, deadline=NOW - 5 if switches else EXPIRES), NOW - 9, heard_of)
        handlers.on_approval_requested(asked(order, deadline=deadline), NOW - 8, heard_of)
        handlers.on_approval_requested(asked(order, deadline=NOW - 5 if switches else EXPIRES), NOW - 7, heard_of)
        handlers.on_approval_requested(asked(order, statement="{}"), NOW - 7, heard_of)
        assert len(ready(root, heard_of).switches) == switches


def test_a_request_has_lapsed_once_people_were_asked_about_a_later_version_and_one_of_them_has_answered(root: Path) -> None:
    order, later = ordered(root), ordered(root, rollout=2)
    answer, approval = rejected(root, later), submitted(order.envelopes[0])
    for answers, in_time, switches in (
        ([submitted(later.envelopes[0])], False, 0),
        ([answer], False, 0),
        ([answer], True, 1),
        ([], False, 1),
        ([rejected(root, later, "mallory")], False, 1),
        ([rejected(root, later, expires=EXPIRES + 1)], False, 1),
    ):
        decisions = [(answer, NOW + SECOND) for answer in answers] + [(approval, NOW - 6)] * in_time
        heard_of = reviewed(order, *decisions)
        handlers.on_approval_requested(asked(later), NOW - 5, heard_of)
        found = ready(root, heard_of)
        assert (len(found.switches), [reason for _, reason in found.refused]) == (switches, ["lapsed"] * (1 - switches))


def test_a_settled_order_is_not_heard_again(root: Path) -> None:
    heard_of = rollouts(ordered(root))
    handlers.settle(heard_of, heard(ordered(root)), 0)
    handlers.on_rollout_ordered(heard(ordered(root)), heard_of)
    assert ready(root, heard_of) == Ready([], [])


def of_shard(number: int) -> State:
    return State("world", number, bundle=with_model(bundle()))


def test_each_shard_has_its_own_answer_to_an_order(root: Path) -> None:
    heard_of = rollouts(ordered(root), shards=(0, 1))
    for shard in (0, 1):
        assert len(ready(root, heard_of, of_shard(shard), shards=2).switches) == 1
        handlers.settle(heard_of, heard(ordered(root)), shard)
        assert ready(root, heard_of, of_shard(shard), shards=2) == Ready([], [])
    later = ordered(root, order="o2", rollout=2)
    handlers.on_rollout_ordered(heard(later), heard_of)
    handlers.on_model_prepared(prepared(later, 0, 1), heard_of)
    assert [len(ready(root, heard_of, of_shard(shard), shards=2).switches) for shard in (0, 1)] == [1, 1]


def test_a_switch_that_is_said_again_after_a_restart_is_the_same_event_with_its_records_stream_time(root: Path) -> None:
    log, spec, ring, lane = Log(), with_model(bundle()), KeyRing.load(root / "pinned"), Lane("a", 0)
    writer = Writer(log, spec, (lane, Lane("b", 0)), ring=ring)
    writer.take(*(arrival(Lane(name, 0), [event(name, name, NOW - SECOND)]) for name in "ab"))
    writer.take(switches=ready(root, rollouts(ordered(root))).switches)
    at = writer.shard.state.switches["m"]
    writer.take(*(arrival(Lane(name, 0), [event(name, f"{name}2", NOW)], 1) for name in "ab"))
    kept = load(dump(writer.shard.state))
    restored = Writer(log, spec, (lane,), ring=ring).shard.state
    assert log.rows[at.offset]["kind"] == log_header.MODEL_SWITCHED
    first, said = handlers.appended(at, 0)
    assert (said.partition, said.offset, said.run, said.stream_time) == (0, at.offset, "r1", NOW - SECOND)
    assert int(log.rows[at.offset]["stream"]) == NOW - SECOND
    assert (first, said) == handlers.appended(restored.switches["m"], 0) == handlers.appended(kept.switches["m"], 0)
    assert first != handlers.appended(at, 1)[0]


def test_a_genuine_switch_that_stands_in_the_log_once_more_takes_no_newer_ones_place_after_a_restart(root: Path) -> None:
    log, spec, ring = Log(), with_model(bundle()), KeyRing.load(root / "pinned")
    first, second = (ready(root, rollouts(ordered(root, rollout=n, order=f"o{n}"))).switches[0] for n in (1, 2))
    for switch in (first, second, first):
        Writer(log, spec, (Lane("a", 0),)).take(switches=[switch])
    restored = Writer(log, spec, (Lane("a", 0),), ring=ring).shard.state
    assert log.order() == ["+m"] * 3
    assert restored.switches["m"].event.order == "o2"


def test_a_forged_switch_in_the_log_makes_no_genuine_order_stale_after_a_restart(root: Path) -> None:
    log, spec, ring = Log(), with_model(bundle()), KeyRing.load(root / "pinned")
    genuine, forged = (
        Switch(ready(root, rollouts(ordered(root))).switches[0].event.model_copy(update=over)) for over in ({}, {"rollout": 99})
    )
    for switch in (genuine, forged):
        Writer(log, spec, (Lane("a", 0),)).take(switches=[switch])
    assert log.order() == ["+m", "+m"]
    restored = Writer(log, spec, (Lane("a", 0),), ring=ring).shard.state
    assert restored.switches["m"].event.order == genuine.event.order
    assert len(ready(root, rollouts(ordered(root, rollout=2, order="o2")), restored).switches) == 1
