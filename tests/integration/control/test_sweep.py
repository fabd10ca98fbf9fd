"""The last records of a partition are taken, though Faust passed over them and none comes after."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass

import pytest
from confluent_kafka import Producer

from tests.integration.control.begin import begin_here
from tests.integration.control.conftest import Bench
from tests.integration.control.toy import Ports, toy
from tests.waiting import until
from tidemill.bus.control import journal
from tidemill.bus.control.places import Places
from tidemill.bus.control.service import Saying
from tidemill.bus.control.sweep import Sweep
from tidemill.bus.control_client import Publisher, topic_name
from tidemill.events.dead import Record
from tidemill.events.topics import control_topics
from tidemill.events.training import RetrainRequested
from tidemill.settings import Settings

MODEL = "m"


def request(reason: str = "please") -> RetrainRequested:
    return RetrainRequested(stream="toy", model=MODEL, requester="ann", reason=reason)


@dataclass
class Unheard:
    """A service that begins at the end of its topics, and hears nothing of what comes then."""

    bench: Bench
    settings: Settings
    places: Places
    sweep: Sweep

    def say(self, *reasons: str) -> None:
        with Publisher(self.settings, "test") as publisher:
            for reason in reasons:
                publisher.publish(request(reason))

    def next(self) -> Record:
        """The oldest record that was not taken yet."""
        return next(record for place in self._open() for record in self.places.between(*place))

    def waiting(self) -> int:
        """How many offsets were not heard of yet."""
        return sum(end - first for *_, first, end in self._open())

    def _open(self) -> list[tuple[str, int, int, int]]:
        with self.bench.engine.pool.connection() as connection:
            heard = journal.places(connection)
        ends = self.places.watermarks()
        return [(*place, first, ends[place][1]) for place, first in heard.items() if first < ends[place][1]]

    def taken(self) -> list[str]:
        return [event.reason for event in self.bench.said() if hasattr(event, "reason")]


@pytest.fixture
def unheard(stack, bench) -> Unheard:
    stack.topics(control_topics())
    settings, service = stack.settings(), toy()
    begin_here(bench.dsn, settings, list(service.handlers), service.migrations)
    places = Places(settings, f"test-{uuid.uuid4().hex[:8]}", list(map(topic_name, service.handlers)))
    return Unheard(bench, settings, places, Sweep(bench.engine, places, threading.Event()))


def test_records_that_wait_at_two_looks_are_taken_in_order(unheard) -> None:
    unheard.say("first", "second", "third")
    unheard.sweep.look()
    assert unheard.taken() == [], "Faust may be about to bring them"
    unheard.sweep.look()
    assert unheard.taken() == [f"{reason} {half}" for reason in ("first", "second", "third") for half in "ab"]
    assert unheard.waiting() == 0


def test_where_a_service_goes_on_by_itself_nothing_is_taken_for_it(unheard) -> None:
    unheard.say("first", "second")
    unheard.sweep.look()
    unheard.bench.engine.take_in_order(unheard.next(), unheard.places.between)
    unheard.sweep.look()
    assert unheard.taken() == ["first a", "first b"]
    unheard.sweep.look()
    assert unheard.taken() == ["first a", "first b", "second a", "second b"]


def test_an_offset_that_no_record_has_is_gone_over(unheard) -> None:
    """The end of a producer's transaction takes up an offset."""
    producer = Producer({"bootstrap.servers": unheard.settings.kafka, "transactional.id": unheard.places.group})
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(topic_name(RetrainRequested), b"junk", partition=0)
    producer.commit_transaction()
    until(lambda: unheard.waiting() == 2, "the marker, which the broker writes after its answer")
    unheard.sweep.look()
    unheard.sweep.look()
    assert unheard.bench.seen.letters == ["not-framed"]
    assert unheard.waiting() == 0


def test_a_record_whose_handler_is_long_at_work_is_not_missed(bench) -> None:
    """The other thread looks for it while the handler works, and reads nothing once the handler has ended."""
    read, records = threading.Event(), [bench.record(request(), 0), bench.record(request(), 1)]

    def between(*_: object) -> list[Record]:
        read.set()
        return records

    def on_request(event: RetrainRequested, ports: Ports) -> list[Saying]:
        look.start()
        assert not read.wait(0.5), "that it is not read while the handler works can only be watched for a while"
        return []

    engine, topic = bench.engine_of({RetrainRequested: on_request}), topic_name(RetrainRequested)
    with engine.pool.connection() as connection:
        journal.advance(connection, topic, 0, 0)
    look = threading.Thread(target=engine.take_missed, args=(topic, 0, 0, 2, between))
    engine.take_in_order(records[0], between)
    look.join(30)
    assert not look.is_alive()
    assert not read.is_set()
