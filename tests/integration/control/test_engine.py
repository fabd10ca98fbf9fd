"""One event, one transaction, one effect: the engine on a real database."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from tests.integration.control.conftest import Seen
from tests.integration.control.toy import Ports, toy
from tidemill.bus.control import journal
from tidemill.bus.control.clock import Clock
from tidemill.bus.control.engine import MOST_PARKED
from tidemill.bus.control.service import Parked, Saying
from tidemill.errors import Transient
from tidemill.events.deadletters import DeadLetter
from tidemill.events.identity import event_id
from tidemill.events.training import RetrainRequested, RunDeclined, RunFailed


def request(model: str = "m", reason: str = "please") -> RetrainRequested:
    return RetrainRequested(stream="toy", model=model, requester="ann", reason=reason)


def failure(model: str = "m") -> RunFailed:
    return RunFailed(run="r", stream="toy", model=model, reason="x", detail="")


def counts(bench) -> dict[object, object]:
    return dict(bench.rows("select model, number from counts"))


def reasons(bench) -> list[str]:
    return [event.reason for event in bench.said() if isinstance(event, RunDeclined)]


def test_an_event_has_its_effect_and_what_it_says_in_order(bench) -> None:
    bench.engine.take(bench.record(request(), 0, "first"))
    assert counts(bench) == {"m": 1}
    assert reasons(bench) == ["please a", "please b"]
    kind = RunDeclined.ce_type()
    assert [row[0] for row in bench.rows("select id from control.outbox order by number")] == [
        event_id(f"{RetrainRequested.TOPIC}/first", kind, "m", 0),
        event_id(f"{RetrainRequested.TOPIC}/first", kind, "m", 1),
    ]


def test_what_is_said_of_events_of_one_id_in_two_topics_is_all_said(bench) -> None:
    """Anybody may write an event under the id of another topic's."""
    bench.engine.take(bench.record(request(), 0, "same"))
    bench.engine.take(bench.record(failure(), 0, "same"))
    assert reasons(bench) == ["please a", "please b", "parked no more"]


def test_the_same_id_at_another_offset_has_no_second_effect(bench) -> None:
    for offset in (0, 1, 2):
        bench.engine.take(bench.record(request(), offset, "same"))
    assert counts(bench) == {"m": 1}
    assert len(reasons(bench)) == 2
    assert bench.seen.duplicates == 2
    assert bench.rows("select next from control.places") == [(3,)]


def test_another_event_under_an_id_that_had_its_effect_is_a_dead_letter(bench) -> None:
    bench.engine.take(bench.record(request("m", "first"), 0, "same"))
    bench.engine.take(bench.record(request("m", "second"), 1, "same"))
    assert bench.seen.letters == ["id-conflict"]
    assert counts(bench) == {"m": 1}
    (letter,) = [event for event in bench.said() if isinstance(event, DeadLetter)]
    assert (letter.offset, letter.value) == (1, bench.record(request("m", "second"), 1).value)


def test_an_event_said_again_under_other_headers_is_the_same_event(bench) -> None:
    first = bench.record(request(), 0, "same")
    bench.engine.take(first)
    bench.engine.take(replace(first, offset=1, headers=[*first.headers, ("traceparent", b"00-1-2-01")]))
    assert (bench.seen.duplicates, bench.seen.letters, counts(bench)) == (1, [], {"m": 1})


@pytest.mark.parametrize("model", ["m", "a\0b"])
def test_what_became_a_dead_letter_takes_no_id_from_a_genuine_event(bench, model: str) -> None:
    refused = bench.record(request(model, "refuse"), 0, "guessed")
    bench.engine.take(refused)
    bench.engine.take(replace(refused, offset=1, value=b"junk"))
    bench.engine.take(bench.record(request(), 2, "guessed"))
    assert len(bench.seen.letters) == 2
    assert counts(bench) == {"m": 1}


def test_what_waits_takes_no_id_from_a_genuine_event(bench) -> None:
    bench.engine.take(bench.record(request("n"), 0))
    bench.engine.take(bench.record(failure("m"), 0, "guessed"))
    bench.engine.take(bench.record(failure("n"), 1, "guessed"))
    assert reasons(bench)[-1] == "parked no more"
    bench.engine.take(bench.record(request("m"), 1))
    assert bench.seen.letters == ["id-conflict"]
    assert bench.rows("select count(*) from control.parked") == [(0,)]


def test_an_event_that_was_said_twice_while_it_waits_has_its_effect_once(bench) -> None:
    for offset in (0, 1):
        bench.engine.take(bench.record(failure(), offset, "same"))
    bench.engine.take(bench.record(request(), 0))
    assert reasons(bench).count("parked no more") == 1
    assert (bench.seen.duplicates, bench.seen.letters) == (1, [])
    assert bench.rows("select count(*) from control.parked") == [(0,)]


def test_what_an_earlier_release_left_waiting_is_judged(bench) -> None:
    """It had written down the id of a record that waits as heard."""
    bench.engine.take(bench.record(failure(), 0, "waits"))
    bench.rows("insert into control.inbox (topic, id) values ('training.run-failed.v1', 'waits') returning 1")
    bench.engine.take(bench.record(request(), 0))
    assert reasons(bench)[-1] == "parked no more"


def test_an_offset_that_was_heard_is_not_heard_again(bench) -> None:
    bench.engine.take(bench.record(request(), 5, "a"))
    bench.engine.take(bench.record(request(), 5, "b"))
    bench.engine.take(bench.record(request(), 4, "c"))
    assert counts(bench) == {"m": 1}


def test_records_that_were_passed_over_are_taken_first(bench) -> None:
    passed = [bench.record(request("m", str(offset)), offset) for offset in range(4)]
    bench.engine.take_in_order(passed[0], lambda *_: [])
    bench.engine.take_in_order(passed[3], lambda topic, partition, first, end: passed[first:end])
    assert reasons(bench) == [f"{offset} {half}" for offset in range(4) for half in "ab"]


def test_a_rejected_event_is_a_dead_letter_and_changes_nothing_else(bench) -> None:
    bench.engine.take(bench.record(request("m", "refuse"), 0))
    bench.engine.take(bench.record(request("m", "go on"), 1))
    assert counts(bench) == {"m": 1}
    letter, *others = bench.said()
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.offset, letter.service) == ("toy-refuses", 0, "toy")
    assert len(others) == 2
    assert bench.rows("select topic, id from control.outbox order by number")[0] == ("dead-letters", letter.id)


@pytest.mark.parametrize("value", [None, b"", b"not framed", b"\x00\x7f\xff\xff\xff", b"\x00\x00"])
def test_bytes_that_are_no_event_are_dead_letters(bench, value: bytes | None) -> None:
    bench.engine.take(replace(bench.record(request(), 0), value=value))
    bench.engine.take(bench.record(request(), 1))
    assert counts(bench) == {"m": 1}
    assert len(bench.seen.letters) == 1


TOO_LONG = random.Random(1).randbytes(9_000).hex()
"""No index takes it, however it is compressed."""


@pytest.mark.parametrize(("model", "event"), [("a\0b", "id"), (TOO_LONG, "id"), ("m", TOO_LONG)])
def test_what_a_database_cannot_keep_is_a_dead_letter(bench, model: str, event: str) -> None:
    bench.engine.take(bench.record(request(model), 0, event))
    bench.engine.take(bench.record(request(), 1))
    assert bench.seen.letters == ["unstorable"]
    assert counts(bench) == {"m": 1}


@pytest.mark.parametrize(("name", "value"), [("ce_id", b"a\0b"), ("tidemill-seq", b"9" * 5_000), ("ce_time", b"9" * 5_000)])
def test_a_header_made_to_stop_its_reader_does_not(bench, name: str, value: bytes) -> None:
    record = bench.record(request(), 0)
    headers = [*(header for header in record.headers if header[0] != name), (name, value)]
    bench.engine.take(replace(record, headers=headers))
    bench.engine.take(bench.record(request(), 1))
    assert counts(bench) == {"m": 2}


def test_an_event_in_a_foreign_topic_is_a_dead_letter(bench) -> None:
    bench.engine.take(replace(bench.record(request(), 0), topic="training.run-failed.v1"))
    assert bench.seen.letters == ["wrong-type"]
    assert counts(bench) == {}


def test_an_event_waits_for_its_antecedent(bench) -> None:
    bench.engine.take(bench.record(failure(), 0))
    bench.engine.take(bench.record(failure("other"), 1))
    assert reasons(bench) == []
    bench.engine.take(bench.record(request(), 0))
    assert reasons(bench) == ["please a", "please b", "parked no more"]
    assert [row[0] for row in bench.rows("select antecedent from control.parked")] == ["a request for other"]
    bench.engine.take(bench.record(request(), 1))
    assert reasons(bench).count("parked no more") == 1


def test_what_strangers_invent_pushes_out_nobody_who_waits(bench) -> None:
    bench.engine.take(bench.record(failure(), 0))
    for n in range(1, MOST_PARKED + 1):
        bench.engine.take(bench.record(failure(f"invented-{n}"), n))
    assert bench.seen.letters == ["too-many-parked"]
    bench.engine.take(bench.record(request(), 0))
    assert bench.seen.letters == ["too-many-parked"]
    assert reasons(bench)[-1] == "parked no more"


def test_an_event_whose_antecedent_never_comes_is_a_dead_letter(bench) -> None:
    bench.engine.take(bench.record(failure("other"), 0))
    bench.rows("update control.parked set since = now() - interval '8 days' returning 1")
    bench.engine.take(bench.record(request(), 0))
    assert bench.seen.letters == ["antecedent-missing"]
    assert bench.rows("select count(*) from control.parked") == [(0,)]


def test_a_record_that_two_threads_saw_waiting_is_judged_once(bench) -> None:
    def on_run_failed(event: RunFailed, ports: Ports) -> list[Saying]:
        if not ports.count(event.model):
            raise Parked("a request")
        ports.add(event.model)
        return []

    engine = bench.engine_of({RunFailed: on_run_failed})
    engine.take(bench.record(failure(), 0))
    with engine.pool.connection() as connection:
        ((seen, age),) = journal.parked(connection, "")
    engine.take(bench.record(request(), 0))
    assert counts(bench) == {"m": 2}
    assert not engine._retry(seen, age)
    assert counts(bench) == {"m": 2}


class Killed(Exception):
    """The process ends here."""


@dataclass
class AfterCommit(Seen):
    """Does something between the commit of an event and all that follows on it."""

    act: Callable[[], object] = list

    def handled(self, topic: str, seconds: float) -> None:
        self.act()


def kill() -> None:
    raise Killed


def test_what_waited_is_judged_once_in_the_next_life_where_one_ended_just_after_the_antecedent(bench) -> None:
    bench.engine.take(bench.record(failure(), 0))
    bench.engine.take(bench.record(failure("other"), 1))
    antecedent = bench.record(request(), 0)
    with pytest.raises(Killed):
        bench.engine_watched_by(AfterCommit(act=kill)).take(antecedent)
    assert "parked no more" not in reasons(bench)
    for _ in range(2):
        life = bench.engine_watched_by(Seen())
        life.resume()
        life.take(antecedent)
    assert reasons(bench) == ["please a", "please b", "parked no more"]
    assert [row[0] for row in bench.rows("select antecedent from control.parked")] == ["a request for other"]


def test_what_waits_for_one_fact_alone_is_judged_in_the_next_life_too(bench) -> None:
    def on_run_failed(event: RunFailed, ports: Ports) -> list[Saying]:
        if not ports.count(event.model):
            raise Parked("a request", after=RetrainRequested)
        ports.add(event.model)
        return []

    bench.engine_of({RunFailed: on_run_failed}).take(bench.record(failure(), 0))
    bench.rows("insert into counts values ('m', 1) returning 1")
    bench.engine_of({RunFailed: on_run_failed}).resume()
    assert counts(bench) == {"m": 2}


def test_a_connection_that_is_lost_before_what_waits_is_looked_up_is_waited_for(bench) -> None:
    bench.engine.take(bench.record(failure(), 0))
    seen = AfterCommit(act=lambda: lose_connections(bench))
    bench.engine_watched_by(seen).take(bench.record(request(), 0))
    assert reasons(bench)[-1] == "parked no more"
    assert len(seen.waits) > 0


def lose_connections(bench) -> None:
    bench.rows(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    )


def test_a_timer_fires_once_and_is_the_cause_of_what_it_says(bench) -> None:
    bench.engine.take(bench.record(request("m", "timer"), 0, "first"))
    clock = Clock(bench.engine, bench.engine._stop)
    assert clock.tick() > 0
    bench.rows("update control.due set at = 0 returning 1")
    assert clock.tick() == 0
    assert clock.tick() == 1.0
    due = event_id(f"{RetrainRequested.TOPIC}/first", "timer:bell", "m")
    assert bench.rows("select subject, cause from timers") == [("m", due)]
    assert reasons(bench) == ["ding"]


def test_what_a_service_does_of_itself_happens_once(bench) -> None:
    def act(ports) -> list[RunFailed]:
        ports.add("own")
        return [failure("own")]

    assert bench.engine.once("cause", act)
    assert not bench.engine.once("cause", act)
    assert counts(bench) == {"own": 1}
    assert bench.said() == [failure("own")]


def test_what_is_away_is_waited_for(bench) -> None:
    tries = iter([Transient("away"), Transient("still away"), None])

    def act(ports) -> list[RunFailed]:
        if error := next(tries):
            raise error
        return []

    assert bench.engine.once("cause", act)
    assert bench.seen.waits == ["away", "still away"]


def test_a_lost_connection_is_waited_for(bench) -> None:
    lose_connections(bench)
    bench.engine.take(bench.record(request(), 0))
    assert counts(bench) == {"m": 1}


def test_a_changed_migration_is_refused(bench) -> None:
    with bench.engine.pool.connection() as connection:
        journal.migrate(connection, [*toy().migrations, "create table more (n int)"])
        with pytest.raises(RuntimeError, match="must not change"):
            journal.migrate(connection, ["create table other (n int)"])
