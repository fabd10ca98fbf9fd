"""Headers are read of every message, also beside one whose headers the client cannot read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from tests import bad_header
from tests.calls import calls_of
from tests.waiting import until
from tidemill.bus.consumer import UNREADABLE, headers_of, unreadable

REPOSITORY = Path(__file__).resolve().parents[3]
QUIET = {"log_level": 0}


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    """The address of a broker that librdkafka plays in this process."""
    player = Producer({"bootstrap.servers": "played", "test.mock.num.brokers": 1, **QUIET})
    (one,) = player.list_topics(timeout=30).brokers.values()
    yield f"{one.host}:{one.port}"


def written(broker: str, topic: str, *bad: int) -> list[Message]:
    """Four messages as the client reads them: those at `bad` have a header whose name is no UTF-8, the last has none."""
    producer = Producer({"bootstrap.servers": broker, **QUIET})
    for at in range(4):
        if at in bad:
            bad_header.write(broker, topic, b"%d" % at)
        else:
            producer.produce(topic, b"%d" % at, partition=0, headers={"at": b"%d" % at} if at < 3 else None)
            assert producer.flush(30) == 0
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "g", **QUIET})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[Message] = []
    until(lambda: found.extend(consumer.consume(4, 0.5)) or len(found) == 4, "the four messages")
    consumer.close()
    return found


@pytest.mark.parametrize("bad", [(), (1,), (0, 1), (0, 3)])
def test_headers_that_cannot_be_read_take_no_neighbours_along(broker: str, bad: tuple[int, ...]) -> None:
    messages = written(broker, "-".join(["t", *map(str, bad)]), *bad)
    expected: list[Any] = [[("at", b"0")], [("at", b"1")], [("at", b"2")], None]
    for at in bad:
        expected[at] = UNREADABLE
    assert headers_of(messages) == expected
    assert unreadable(expected) == list(bad)
    assert headers_of(messages) == expected, "also when they are asked for again"
    assert [message.value() for message in messages] == [b"0", b"1", b"2", b"3"]


def test_nobody_else_asks_a_message_for_its_headers() -> None:
    files = [file for folder in ("libs", "services") for file in (REPOSITORY / folder).rglob("*.py")]
    asking = {file for file in files if re.search(r"Message\.headers|\.headers\(\)", file.read_text())}
    assert asking == {REPOSITORY / "libs" / "tidemill" / "bus" / "consumer.py"}


def test_reading_headers_makes_no_call_per_message() -> None:
    def calls(count: int) -> int:
        messages = [Message(topic="t", value=b"x", headers=[("a", b"b")]) for _ in range(count)]
        return calls_of(lambda: headers_of(messages))

    assert calls(1_000) == calls(10)
