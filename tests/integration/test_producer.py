"""Sending in turns on a real broker: what leaves together, who is told, what ends it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import Message

from tests.broker import frozen
from tidemill.bus.consumer import read_to_end
from tidemill.bus.producer import DeliveryError, Sender, gapless
from tidemill.events.topics import Topic, load_topics

TOLD = 299


@pytest.fixture
def topic(stack: Any, stream_name: str) -> str:
    stack.topics([a_topic(stream_name)])
    return stream_name


@pytest.fixture
def sender(stack: Any) -> Sender:
    return gapless(stack.settings(), "test")


def a_topic(name: str, **config: Any) -> Topic:
    row = load_topics()["log.{stream}"]
    return replace(row, name=name, partitions=1, per_shard=False, config={**row.config, **config})


def test_a_turn_leaves_in_one_request_and_tells_who_waits(stack: Any, sender: Sender, topic: str) -> None:
    heard: list[Message] = []
    for turn in range(5):
        assert sender.ready(30)
        values = [b"%d" % (turn * 300 + at) for at in range(300)]
        sender.send(topic, 0, [None] * 300, values, told={TOLD: heard.append})
        sender.go()
    assert sender.ready(30)
    assert [message.offset() for message in heard] == [turn * 300 + TOLD for turn in range(5)]
    messages = [message for batch in read_to_end(stack.settings(), topic) for message in batch]
    assert [message.value() for message in messages] == [b"%d" % at for at in range(1_500)]
    # the broker stamps what comes in one request with one time
    assert all(len({message.timestamp() for message in messages[at : at + 300]}) == 1 for at in range(0, 1_500, 300))


def test_what_nobody_tells_to_go_leaves_by_itself(sender: Sender, topic: str) -> None:
    sender.send(topic, 0, [b"k"], [b"v"])
    assert sender.ready(30)


@pytest.fixture
def frozen_broker(stack: Any, sender: Sender, topic: str) -> Iterator[None]:
    sender.send(topic, 0, [None], [b"the connection stands"])
    assert sender.flush(30)
    with frozen(stack.bootstrap):
        yield
    assert sender.flush(60)


@pytest.mark.usefixtures("frozen_broker")
def test_nothing_is_ready_while_the_broker_is_silent(sender: Sender, topic: str) -> None:
    sender.send(topic, 0, [None] * 10, [b"v"] * 10)
    sender.go()
    assert not sender.ready(0.5)


def test_a_record_that_the_broker_refuses_ends_the_sender(stack: Any, sender: Sender, stream_name: str) -> None:
    stack.topics([a_topic(stream_name, **{"max.message.bytes": "1000"})])
    sender.send(stream_name, 0, [None, None], [os.urandom(5_000), b"the record after it"])
    with pytest.raises(DeliveryError, match="too large"):
        sender.flush(30)
    with pytest.raises(DeliveryError, match="did not take"):
        sender.send(stream_name, 0, [None], [b"and another"])
