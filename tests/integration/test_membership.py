"""Members of a service's group: static, so that a killed worker goes on at once, and yet never held to what they once had."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, TopicPartition

from tests.broker import SHORT_SESSION
from tests.conftest import Stack
from tests.waiting import until
from tidemill.bus.consumer import leave, member
from tidemill.settings import Settings

LIFE = """
import sys
from tests.integration.test_membership import assigned, joined
from tidemill.settings import Settings
with joined(Settings.model_validate_json(sys.argv[1]), *sys.argv[2:]) as consumer:
    print(*assigned(consumer), flush=True)
    while True:
        consumer.poll(0.1)
"""


def test_a_member_that_left_comes_back_with_other_streams(stack: Stack, stream_name: str) -> None:
    settings, (one, other) = stack.settings(), (f"{stream_name}-a", f"{stream_name}-b")
    for stream in (one, other):
        stack.stream(stream, "x")
    for stream in (one, other):
        with joined(settings, stream_name, stream) as consumer:
            assert assigned(consumer) == [f"log.{stream}"]
            leave(consumer)


def test_a_member_that_was_killed_comes_back_to_a_stream_that_is_new(stack: Stack, stream_name: str) -> None:
    settings, (old, new), every = (
        stack.settings(librdkafka=SHORT_SESSION),
        (f"{stream_name}-a", f"{stream_name}-b"),
        f"{stream_name}-.",
    )
    stack.stream(old, "x")
    assert killed(settings, stream_name, every) == [f"log.{old}"]
    assert killed(settings, stream_name, every) == [f"log.{old}"]
    stack.stream(new, "x")
    assert killed(settings, stream_name, every) == [f"log.{old}", f"log.{new}"]


@contextmanager
def joined(settings: Settings, service: str, stream: str) -> Iterator[Consumer]:
    """A member that subscribes to some streams' logs."""
    pattern = rf"^log\.{stream}$"
    consumer = member(settings, service, [pattern])
    consumer.subscribe([pattern])
    yield consumer
    consumer.close()


def assigned(consumer: Consumer) -> list[str]:
    """The topics that it gets at its first assignment."""

    def given() -> list[TopicPartition]:
        consumer.poll(0.1)
        return consumer.assignment()

    return sorted(place.topic for place in until(given, "an assignment"))


def killed(settings: Settings, service: str, stream: str) -> list[str]:
    """The topics that a process gets, which is killed then."""
    told = settings.model_dump_json(exclude={"postgres"})
    with subprocess.Popen([sys.executable, "-c", LIFE, told, service, stream], stdout=subprocess.PIPE, text=True) as life:
        assert life.stdout is not None
        try:
            return life.stdout.readline().split()
        finally:
            life.kill()
