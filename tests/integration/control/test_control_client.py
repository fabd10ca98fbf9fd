"""Control events said, followed and read by those that are no control service."""

from __future__ import annotations

import uuid

import pytest
from confluent_kafka import Producer

from tests.waiting import until
from tidemill.bus.control_client import Follower, Heard, Publisher, read_all, topic_name
from tidemill.errors import Transient
from tidemill.events.base import Event
from tidemill.events.governance import DecisionSubmitted
from tidemill.events.progress import Progress
from tidemill.events.topics import control_topics
from tidemill.events.training import RetrainRequested, RunFailed
from tidemill.settings import Settings


def request(model: str, reason: str = "please") -> RetrainRequested:
    return RetrainRequested(stream="toy", model=model, requester="ann", reason=reason)


def failure(model: str) -> RunFailed:
    return RunFailed(run="r", stream="toy", model=model, reason="x", detail="")


@pytest.fixture
def settings(stack):
    stack.topics(control_topics())
    return stack.settings()


@pytest.fixture
def model() -> str:
    return f"client-{uuid.uuid4().hex[:8]}"


def publish(event: Event, settings: Settings, cause: str | None = None) -> None:
    with Publisher(settings, "cli") as publisher:
        publisher.publish(event, cause=cause)


def test_what_was_said_is_read_in_the_order_of_saying(settings, model) -> None:
    with Publisher(settings, "test") as publisher:
        ids = [publisher.publish(event) for event in (request(model), failure(model), request(model, "again"))]
    heard = [one for one in read_all(settings, [RetrainRequested, RunFailed]) if one.event.model == model]  # type: ignore[attr-defined]
    assert [one.envelope.id for one in heard] == ids
    assert [one.event for one in heard] == [request(model), failure(model), request(model, "again")]
    assert all(one.envelope.source == "test" and one.envelope.traceparent for one in heard)


def test_a_follower_from_the_begin_hears_the_past_then_the_present(settings, model) -> None:
    publish(request(model, "past"), settings)
    with Follower(settings, [RetrainRequested]) as follower:
        heard = _heard(follower, model, 1)
        until(lambda: _caught_up(follower), "the present")
        publish(request(model, "present"), settings, cause="why")
        heard += _heard(follower, model, 1)
    assert [one.event.reason for one in heard] == ["past", "present"]  # type: ignore[attr-defined]
    assert heard[-1].envelope.caused_by == "why"


def test_a_follower_from_now_hears_no_past_and_passes_over_junk(settings, model) -> None:
    publish(request(model, "past"), settings)
    with Follower(settings, [RetrainRequested], "now") as follower:
        assert follower.caught_up
        producer = Producer({"bootstrap.servers": settings.kafka})
        producer.produce("training.retrain-requested.v1", b"junk")
        producer.flush()
        publish(request(model, "present"), settings)
        assert [one.event.reason for one in _heard(follower, model, 1)] == ["present"]  # type: ignore[attr-defined]


def test_a_fact_with_a_topic_per_stream_names_its_stream(stack, settings, stream_name) -> None:
    stack.stream(stream_name)
    with Publisher(settings, "test") as publisher:
        publisher.publish(Progress(service="training", model="m", event_time=1, position=2), stream=stream_name)
    heard = read_all(settings, [Progress], stream=stream_name)
    assert [one.event.event_time for one in heard] == [1]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="which stream"):
        topic_name(Progress)
    assert topic_name(DecisionSubmitted) == "governance.decision-submitted.v1"


def test_a_topic_that_is_not_there_is_said(settings) -> None:
    with pytest.raises(Transient, match="no-such-stream"):
        Follower(settings, [Progress], stream="no-such-stream", timeout=1.0)


def _caught_up(follower: Follower) -> bool:
    follower.poll(0.1)
    return follower.caught_up


def _heard(follower: Follower, model: str, count: int) -> list[Heard]:
    found: list[Heard] = []

    def complete() -> bool:
        found.extend(one for one in follower.poll(0.1) if one.event.model == model)  # type: ignore[attr-defined]
        return len(found) >= count

    until(complete, f"{count} events")
    return found
