"""Readers of a topic to its end, where its last offset holds no record: a producer's transaction ends with a marker."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from tests.conftest import Stack
from tests.waiting import until
from tidemill.bus.consumer import read_to_end, reader
from tidemill.bus.tail import Lookup
from tidemill.settings import Settings

MARKER = 3
"""The last offset of the topic: records are at 0 to 2."""


@pytest.fixture
def settings(stack: Stack) -> Settings:
    return stack.settings()


@pytest.fixture
def topic(stack: Stack, settings: Settings) -> str:
    name = stack.plain_topic(2)
    producer = Producer({"bootstrap.servers": settings.kafka, "transactional.id": name})
    producer.init_transactions(30)
    producer.begin_transaction()
    for number in range(MARKER):
        producer.produce(name, b"%d" % number, partition=1)
    producer.commit_transaction(30)
    until(lambda: end_of(settings, name) == MARKER + 1, "the marker, which the broker writes after its answer")
    return name


def end_of(settings: Settings, topic: str) -> int:
    lookup = Lookup(reader(settings))
    try:
        return lookup.bounds(topic, 1)[1]
    finally:
        lookup.close()


def test_all_of_a_topic_is_read_though_it_ends_with_a_marker(settings: Settings, topic: str) -> None:
    assert [message.value() for batch in read_to_end(settings, topic) for message in batch] == [b"0", b"1", b"2"]


def test_records_are_found_beside_a_marker(settings: Settings, topic: str) -> None:
    lookup = Lookup(reader(settings))
    try:
        assert lookup.bounds(topic, 1) == (0, MARKER + 1)
        assert [message.value() for batch in lookup.batches(topic, 1, begin=1) for message in batch] == [b"1", b"2"]
        assert [message.value() for message in lookup.newest(topic, 1, 2)] == [b"2"]
        assert lookup.record(topic, 1, MARKER) is None
        found = lookup.record(topic, 1, MARKER - 1)
        assert found is not None and found.value() == b"2"
    finally:
        lookup.close()
