"""Where a service's hearing begins, and what can be read again of what it has passed over."""

from __future__ import annotations

import uuid

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests import bad_header
from tidemill.bus.control.places import Places
from tidemill.errors import Transient
from tidemill.settings import Settings


@pytest.fixture
def settings(stack) -> Settings:
    return stack.settings()


@pytest.fixture
def topic(stack, settings) -> str:
    """A topic of one partition with the records 0 to 4."""
    name = stack.plain_topic()
    producer = Producer({"bootstrap.servers": settings.kafka})
    for number in range(5):
        producer.produce(name, b"%d" % number, partition=0)
    assert producer.flush(30) == 0
    return name


def places(settings: Settings, *topics: str) -> Places:
    return Places(settings, f"test-{uuid.uuid4().hex[:8]}", topics)


def forget(settings: Settings, topic: str, before: int) -> None:
    """Have the broker delete the records before an offset, as its retention does."""
    admin, place = AdminClient({"bootstrap.servers": settings.kafka}), TopicPartition(topic, 0, before)
    admin.delete_records([place])[place].result(30)


def committed(settings: Settings, group: str, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": settings.kafka, "group.id": group})
    (place,) = consumer.committed([TopicPartition(topic, 0)], timeout=30)
    consumer.close()
    return int(place.offset)


def test_a_service_that_has_heard_nothing_begins_with_the_first_record_that_is_left(settings, topic) -> None:
    forget(settings, topic, 3)
    begun = places(settings, topic)
    assert begun.begin({}) == {(topic, 0): 3}
    assert committed(settings, begun.group, topic) == 3


@pytest.mark.parametrize("heard", [0, 2, 5])
def test_a_service_goes_on_where_its_database_says(settings, topic, heard: int) -> None:
    begun = places(settings, topic)
    assert begun.begin({(topic, 0): heard}) == {(topic, 0): heard}
    assert committed(settings, begun.group, topic) == heard


def test_a_database_that_is_ahead_of_its_topic_is_refused(settings, topic) -> None:
    with pytest.raises(RuntimeError, match=rf"{topic}/0 holds 0\.\.5, but 6 is next by the database: not the same topic"):
        places(settings, topic).begin({(topic, 0): 6})


def test_a_database_whose_next_record_is_gone_is_refused(settings, topic) -> None:
    forget(settings, topic, 3)
    with pytest.raises(RuntimeError, match=rf"{topic}/0 holds 3\.\.5, but 2 is next by the database"):
        places(settings, topic).begin({(topic, 0): 2})


def test_a_topic_that_is_missing_is_waited_for(settings, topic) -> None:
    with pytest.raises(Transient, match=r"there are no topics no-such-one, nor-this$"):
        places(settings, "no-such-one", topic, "nor-this").begin({})


@pytest.mark.parametrize(("first", "end"), [(0, 5), (1, 3), (4, 5), (5, 5)])
def test_what_lies_between_two_offsets_is_read_also_at_the_partitions_end(settings, topic, first: int, end: int) -> None:
    found = places(settings, topic).between(topic, 0, first, end)
    assert [(record.offset, record.value) for record in found] == [(offset, b"%d" % offset) for offset in range(first, end)]


def test_a_transaction_that_is_open_is_read_as_faust_reads_it(settings, topic) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka, "transactional.id": topic})
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(topic, b"5", partition=0)
    assert producer.flush(30) == 0
    found = places(settings, topic).between(topic, 0, 5, 6)
    producer.abort_transaction()
    assert [record.value for record in found] == [b"5"]


def test_a_record_whose_headers_cannot_be_read_is_read_without(settings, topic) -> None:
    bad_header.write(settings.kafka, topic, b"5")
    found = places(settings, topic).between(topic, 0, 4, 6)
    assert [(record.value, tuple(record.headers)) for record in found] == [(b"4", ()), (b"5", ())]
