"""A control service as a process, on a real broker: what it says reaches the topics once per event, whenever it is killed."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from confluent_kafka import Producer

from tests import bad_header
from tests.integration.control.begin import begin_here
from tests.integration.control.toy import toy
from tests.waiting import until
from tidemill.bus.control import journal
from tidemill.bus.control.agents import BUG
from tidemill.bus.control_client import Follower, Heard, Publisher, read_all
from tidemill.events import wire
from tidemill.events.dead import Record
from tidemill.events.deadletters import DeadLetter
from tidemill.events.topics import control_topics
from tidemill.events.training import RetrainRequested, RunDeclined, RunFailed
from tidemill.telemetry.files import read_spans

REPOSITORY = Path(__file__).resolve().parents[3]
TOY, CRASHING = "tests.integration.control.toy", "tests.integration.control.crashing"


@contextmanager
def process(stack, settings, dsn: str, port: int = 0, program: str = TOY) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-m", program], cwd=REPOSITORY, env=stack.environment(settings, dsn, port))
    try:
        yield child
    finally:
        child.kill()
        child.wait()


Running = tuple[Follower, Publisher, subprocess.Popen[bytes]]


@contextmanager
def running(stack, settings, dsn: str, port: int = 0) -> Iterator[Running]:
    """The toy service, who hears it, and who tells it."""
    with (
        Follower(settings, [RunDeclined], "now") as follower,
        Publisher(settings, "test") as publisher,
        process(stack, settings, dsn, port) as child,
    ):
        yield follower, publisher, child


@pytest.fixture
def settings(stack):
    stack.topics(control_topics())
    return stack.settings()


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def database(stack, settings) -> str:
    dsn: str = stack.new_database()
    begin_here(dsn, settings, list(toy().handlers), toy().migrations)
    return dsn


def model() -> str:
    return f"toy-{uuid.uuid4().hex[:8]}"


def request(name: str, reason: str) -> RetrainRequested:
    return RetrainRequested(stream="toy", model=name, requester="ann", reason=reason)


def declined(follower: Follower, name: str) -> list[Heard]:
    """What was newly said of a model."""
    return [heard for heard in follower.poll(0.2) if isinstance(heard.event, RunDeclined) and heard.event.model == name]


def collect(follower: Follower, name: str, reasons: set[str], seconds: float = 60) -> list[str]:
    """The reasons that were said for a model, each event once, until all wanted ones came."""
    said: dict[str, str] = {}

    def complete() -> bool:
        for heard in declined(follower, name):
            said.setdefault(heard.envelope.id, heard.event.reason)  # type: ignore[attr-defined]
        return reasons <= set(said.values())

    until(complete, f"all of {sorted(reasons)[:5]}...", seconds)
    return list(said.values())


def test_a_service_answers_each_event_as_it_comes_and_ends_when_told(stack, settings) -> None:
    name, dsn = model(), database(stack, settings)
    with running(stack, settings, dsn) as (follower, publisher, child):
        publisher.publish(request(name, "warm"))
        collect(follower, name, {"warm a", "warm b"})
        publisher.publish(request(name, "quick"))
        collect(follower, name, {"quick a", "quick b"})
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 0


def test_the_envelope_tells_the_cause_and_carries_the_trace(stack, settings) -> None:
    name, dsn = model(), database(stack, settings)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with running(stack, settings, dsn) as (follower, publisher, _):
        cause = publisher.publish(request(name, "why"), traceparent=parent)
        envelope = until(lambda: declined(follower, name), "what it says of it")[0].envelope
    assert (envelope.source, envelope.caused_by, envelope.type) == ("toy", cause, "training.run-declined.v1")
    assert envelope.traceparent is not None
    assert envelope.traceparent[3:35] == parent[3:35]


def test_bad_bytes_become_dead_letters_and_the_stream_goes_on(stack, settings) -> None:
    name, dsn = model(), database(stack, settings)
    producer = Producer({"bootstrap.servers": settings.kafka})
    key = uuid.uuid4().hex.encode()
    for value in (b"junk", None, b"\x00\x7f\xff\xff\xff", b""):
        producer.produce("training.retrain-requested.v1", value, key)
    producer.flush()
    with running(stack, settings, dsn) as (follower, publisher, _):
        publisher.publish(request(name, "after"))
        collect(follower, name, {"after a"})
        until(lambda: len(buried(settings, key)) == 4, "a dead letter for each")
    assert buried(settings, key) == ["not-framed", "not-framed", "not-framed", "unknown-schema"]


def test_a_header_whose_name_is_no_utf8_stops_no_service(stack, settings) -> None:
    """Whether it listens or starts, and whether others come behind or not."""
    name, dsn, key = model(), database(stack, settings), uuid.uuid4().hex.encode()
    bad_header.write(settings.kafka, "training.retrain-requested.v1", b"junk", key)
    with running(stack, settings, dsn) as (follower, publisher, _):
        publisher.publish(request(name, "before"))
        collect(follower, name, {"before a"})
        bad_header.write(settings.kafka, "training.retrain-requested.v1", b"junk", key)
        publisher.publish(request(name, "after"))
        collect(follower, name, {"after a"})
        bad_header.write(settings.kafka, "training.retrain-requested.v1", b"junk", key)
        until(lambda: len(buried(settings, key)) == 3, "a dead letter for each")


def buried(settings, key: bytes) -> list[str]:
    """Why records of a key are dead letters."""
    letters = [heard.event for heard in read_all(settings, [DeadLetter])]
    return sorted(letter.reason for letter in letters if isinstance(letter, DeadLetter) and letter.key == key)


def test_killed_at_any_moment_each_event_has_its_effect_once(stack, settings) -> None:
    name, dsn, chance = model(), database(stack, settings), random.Random(20)
    wanted = [f"event {number}" for number in range(100)]
    with Follower(settings, [RunDeclined], "now") as follower, Publisher(settings, "test") as publisher:
        ids = {text: str(uuid.uuid4()) for text in wanted}
        for number, text in enumerate(wanted):
            publisher.publish(request(name, text), ids[text])
            if number % 5 == 0:
                publisher.publish(request(name, text), ids[text])  # the same event again
            if number % 25 == 10:
                with process(stack, settings, dsn) as child:
                    _killed_after_some_work(dsn, child, chance.uniform(0, 0.15))
        with process(stack, settings, dsn):
            said = collect(follower, name, {f"{text} {half}" for text in wanted for half in "ab"})
    assert said == [f"{text} {half}" for text in wanted for half in "ab"], "each once, in order"
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select number from counts where model = %s", (name,)).fetchone() == (len(wanted),)


def _killed_after_some_work(dsn: str, child: subprocess.Popen[bytes], extra: float) -> None:
    """Kill -9 a random while after the process has begun to work on events."""
    query = "select coalesce(sum(next), 0) from control.places"
    with psycopg.connect(dsn, autocommit=True) as connection:
        before = connection.execute(query).fetchone()

        def works() -> bool:
            assert child.poll() is None
            return connection.execute(query).fetchone() != before

        until(works, "work on events")
    time.sleep(extra)  # the random moment itself
    child.kill()
    child.wait()


def test_health_metrics_and_spans_tell_how_it_is(stack, settings, free_port) -> None:
    name, dsn = model(), database(stack, settings)
    with running(stack, settings, dsn, free_port) as (follower, publisher, child):
        publisher.publish(request(name, "one"))
        collect(follower, name, {"one a", "one b"})
        report = await_lag(free_port)
        assert "tidemill_records_read_total" in httpx.get(f"http://127.0.0.1:{free_port}/metrics").text
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 0
    assert (report["service"], report["state"]) == ("toy", "ready")
    spans = {span["name"] for span in read_spans(settings.data_dir)}
    assert {"process training.retrain-requested.v1", "send training.run-declined.v1"} <= spans


def await_lag(port: int) -> dict[str, Any]:
    """What the service reports once it is ready and has heard all."""

    def heard_all() -> dict[str, Any] | None:
        with suppress(httpx.TransportError):  # it does not listen yet
            report: dict[str, Any] = httpx.get(f"http://127.0.0.1:{port}/health/ready").json()
            return report if report["state"] == "ready" and "parked" in report and report["lag"] == 0 else None
        return None

    report: dict[str, Any] = until(heard_all, "a service that has heard all")
    return report


def test_the_last_record_is_taken_though_faust_passed_over_it(stack, settings, free_port) -> None:
    """The service begins behind the record, so Faust will not bring it, and then its database says that it was never taken."""
    name = model()
    with Publisher(settings, "test") as publisher:
        publisher.publish(request(name, "missed"))
    dsn = database(stack, settings)
    (missed,) = [heard for heard in read_all(settings, [RetrainRequested]) if getattr(heard.event, "model", None) == name]
    with Follower(settings, [RunDeclined], "now") as follower, process(stack, settings, dsn, free_port):
        await_lag(free_port)
        with psycopg.connect(dsn) as connection:
            journal.advance(connection, "training.retrain-requested.v1", missed.partition, missed.offset)
        collect(follower, name, {"missed a", "missed b"})


def test_a_process_whose_faust_has_crashed_ends(stack, settings) -> None:
    with process(stack, settings, database(stack, settings), program=CRASHING) as child:
        assert child.wait(60) == BUG


def test_a_request_and_what_rests_on_it_in_the_wrong_order(stack, settings) -> None:
    name, dsn = model(), database(stack, settings)
    failed = RunFailed(run="r", stream="toy", model=name, reason="x", detail="")
    with running(stack, settings, dsn) as (follower, publisher, _), psycopg.connect(dsn, autocommit=True) as connection:
        publisher.publish(failed)
        until(lambda: journal.waiting(connection) == 1, "that it waits for its request")
        publisher.publish(request(name, "now"))
        collect(follower, name, {"now a", "now b", "parked no more"})


def test_a_life_begins_with_what_an_earlier_one_left_waiting(stack, settings) -> None:
    """What the record waited for is there, and nothing more comes that would bring the record to mind."""
    name, dsn = model(), database(stack, settings)
    failed = RunFailed(run="r", stream="toy", model=name, reason="x", detail="")
    left = Record("training.run-failed.v1", 0, 0, None, wire.encode(failed, stack.registry))
    with psycopg.connect(dsn) as connection:
        journal.park(connection, left, f"a request for {name}", "training.retrain-requested.v1")
        connection.execute("insert into counts values (%s, 1)", (name,))
    with Follower(settings, [RunDeclined], "now") as follower, process(stack, settings, dsn):
        collect(follower, name, {"parked no more"})


def test_a_second_process_stands_by_until_the_first_is_gone(stack, settings) -> None:
    name, dsn = model(), database(stack, settings)
    with running(stack, settings, dsn) as (follower, publisher, first):
        publisher.publish(request(name, "one"))
        collect(follower, name, {"one a"})
        with process(stack, settings, dsn):
            publisher.publish(request(name, "two"))
            collect(follower, name, {"two a"})
            first.kill()
            publisher.publish(request(name, "three"))
            said = collect(follower, name, {"three a", "three b"})
    assert said[-2:] == ["three a", "three b"], "what was sent but not yet marked may come again before it"
