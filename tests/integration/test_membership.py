"""Members of a service's group: static, so that a killed worker goes on at once, and yet never held to what they once had."""

from __future__ import annotations

from confluent_kafka import TopicPartition

from tests.conftest import Stack
from tidemill.bus.consumer import leave, member
from tidemill.settings import Settings


def test_a_member_that_left_comes_back_with_other_streams(stack: Stack, stream_name: str) -> None:
    settings, (one, other) = stack.settings(), (f"{stream_name}-a", f"{stream_name}-b")
    for stream in (one, other):
        stack.stream(stream, "x")
    assert assigned(settings, stream_name, one) == [f"log.{one}"]
    assert assigned(settings, stream_name, other) == [f"log.{other}"]


def assigned(settings: Settings, service: str, stream: str) -> list[str]:
    """The topics that a member gets at its first assignment; it leaves afterwards."""
    consumer, given = member(settings, service), list[list[TopicPartition]]()
    consumer.subscribe([rf"^log\.{stream}$"], on_assign=lambda _, places: given.append(places))
    while not given:
        consumer.poll(0.1)
    leave(consumer)
    consumer.close()
    return [place.topic for place in given[0]]
