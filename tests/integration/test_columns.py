"""Columns from and to a real broker: what the other client writes and reads, from any place, in order, whoever is away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import psutil
import pytest
from confluent_kafka import Producer

from tests.broker import frozen
from tests.conftest import Stack
from tests.integration.test_producer import a_topic
from tests.waiting import until
from tidemill.bus import heads
from tidemill.bus.appender import Appender
from tidemill.bus.consumer import own_headers, read_to_end
from tidemill.bus.fetcher import Fetcher
from tidemill.bus.producer import DeliveryError
from tidemill.bus.records import Fetched
from tidemill.events.blobs import Blobs
from tidemill.settings import Settings

COUNT = 3_000


@pytest.fixture
def settings(stack: Stack) -> Settings:
    return stack.settings()


@pytest.fixture
def topic(stack: Stack, stream_name: str) -> str:
    stack.topics([a_topic(stream_name)])
    return stream_name


@pytest.fixture
def fetcher(settings: Settings) -> Iterator[Fetcher]:
    with closing(Fetcher(settings, "test")) as found:
        yield found


@pytest.fixture
def appender(settings: Settings) -> Iterator[Appender]:
    with closing(Appender(settings, "test", ["log.{stream}"])) as found:
        yield found


def write(settings: Settings, topic: str, values: list[bytes], codec: str = "none") -> None:
    producer = Producer({"bootstrap.servers": settings.kafka, "compression.type": codec})
    for value in values:
        producer.produce(topic, value, value[:3], 0, headers={"h": value[:2]} if value.endswith(b"7") else None)
        producer.poll(0)
    assert producer.flush(30) == 0


def append(appender: Appender, topic: str, values: list[bytes]) -> None:
    headers = heads.of([[("h", value[:2])] if value.endswith(b"7") else [] for value in values])
    appender.send(topic, 0, Blobs.of([value[:3] for value in values]), Blobs.of(values), headers)


def numbers(begin: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(begin, end)]


def taken(fetcher: Fetcher, topic: str, count: int, limit: int = 1_000) -> list[Fetched]:
    found: list[Fetched] = []
    until(lambda: found.extend(one for _, one in fetcher.take(limit, 0.5)) or sum(map(len, found)) >= count, "the records")
    assert all(len(one) <= limit for one in found)
    return found


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_what_another_client_wrote_is_read(settings: Settings, topic: str, fetcher: Fetcher, codec: str) -> None:
    values = numbers(0, COUNT)
    write(settings, topic, values, codec)
    fetcher.assign({(topic, 0): 0})
    found = taken(fetcher, topic, COUNT, limit=700)
    assert [value for one in found for value in one.values.tolist()] == values
    assert [key for one in found for key in one.keys.tolist()] == [value[:3] for value in values]
    assert [offset for one in found for offset in one.offsets.tolist()] == list(range(COUNT))
    said = [(one.values[at], heads.read(one.heads[at])) for one in found for at in range(len(one))]
    assert all(head == ([("h", value[:2])] if value.endswith(b"7") else []) for value, head in said)
    messages = [message for batch in read_to_end(settings, topic) for message in batch]
    assert [time for one in found for time in one.times.tolist()] == [message.timestamp()[1] for message in messages]
    assert fetcher.lag((topic, 0)) == 0


def test_what_is_appended_another_client_reads(settings: Settings, topic: str, appender: Appender) -> None:
    values = numbers(0, COUNT)
    for begin in range(0, COUNT, 7):
        append(appender, topic, values[begin : begin + 7])
    assert appender.flush(30)
    messages = [message for batch in read_to_end(settings, topic) for message in batch]
    assert [message.value() for message in messages] == values
    assert [message.key() for message in messages] == [value[:3] for value in values]
    said = [list(own_headers(message)) for message in messages]
    assert said == [[("h", value[:2])] if value.endswith(b"7") else [] for value in values]


def test_reading_begins_at_any_offset_and_goes_on_with_what_comes(settings: Settings, topic: str, fetcher: Fetcher) -> None:
    write(settings, topic, numbers(0, COUNT), "lz4")
    fetcher.assign({(topic, 0): 1_234})
    assert taken(fetcher, topic, COUNT - 1_234)[0].offsets[0] == 1_234
    write(settings, topic, numbers(COUNT, COUNT + 10))
    [*_, last] = taken(fetcher, topic, 10)
    assert last.values.tolist()[-1] == b"%d" % (COUNT + 9)


def test_a_paused_partition_goes_on_where_it_stood(settings: Settings, topic: str, fetcher: Fetcher) -> None:
    write(settings, topic, numbers(0, COUNT))
    fetcher.assign({(topic, 0): 0})
    first = taken(fetcher, topic, 1, limit=10)
    fetcher.pause([(topic, 0)])
    assert fetcher.take(10, 0.3) == []
    fetcher.pause([(topic, 0)], paused=False)
    rest = taken(fetcher, topic, COUNT - 10)
    assert [offset for one in [*first, *rest] for offset in one.offsets.tolist()] == list(range(COUNT))


def test_what_is_dropped_and_given_again_is_read_from_its_new_place(settings: Settings, topic: str, fetcher: Fetcher) -> None:
    write(settings, topic, numbers(0, COUNT))
    fetcher.assign({(topic, 0): 0})
    taken(fetcher, topic, 1, limit=10)
    fetcher.drop([(topic, 0)])
    assert fetcher.take(10, 0.2) == []
    fetcher.assign({(topic, 0): 5})
    assert taken(fetcher, topic, 1)[0].offsets[0] == 5


def test_a_topic_that_is_not_there_yet_is_waited_for(stack: Stack, settings: Settings, stream_name: str, fetcher: Fetcher) -> None:
    fetcher.assign({(stream_name, 0): 0})
    assert fetcher.take(10, 0.3) == []
    stack.topics([a_topic(stream_name)])
    write(settings, stream_name, numbers(0, 5))
    assert taken(fetcher, stream_name, 5)[0].values.tolist() == numbers(0, 5)


def test_a_topic_that_was_cut_behind_its_reader_stops_the_reading(settings: Settings, topic: str, fetcher: Fetcher) -> None:
    fetcher.assign({(topic, 0): 77})
    with pytest.raises(RuntimeError, match="cut behind its readers"):
        until(lambda: fetcher.take(10, 0.5), "an error")


def test_markers_of_transactions_are_passed_over(settings: Settings, topic: str, fetcher: Fetcher) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka, "transactional.id": topic})
    producer.init_transactions(30)
    for value in numbers(0, 3):
        producer.begin_transaction()
        producer.produce(topic, value, partition=0)
        producer.commit_transaction(30)
    fetcher.assign({(topic, 0): 0})
    found = taken(fetcher, topic, 3)
    assert [value for one in found for value in one.values.tolist()] == numbers(0, 3)
    assert [offset for one in found for offset in one.offsets.tolist()] == [0, 2, 4]


@pytest.fixture
def frozen_broker(stack: Stack, appender: Appender, topic: str) -> Iterator[None]:
    append(appender, topic, [b"the connection stands"])
    assert appender.flush(30)
    with frozen(stack.bootstrap):
        yield
    assert appender.flush(60)


@pytest.mark.usefixtures("frozen_broker")
def test_there_is_no_room_for_ever_while_the_broker_is_silent(appender: Appender, topic: str) -> None:
    assert appender.ready(0.1), "little may be under way"
    append(appender, topic, [os.urandom(100_000)] * 100)
    assert not appender.ready(0.5)
    assert not appender.flush(0.1)


def test_a_record_that_the_broker_refuses_ends_the_appender(stack: Stack, appender: Appender, stream_name: str) -> None:
    stack.topics([a_topic(stream_name, **{"max.message.bytes": "1000"})])
    append(appender, stream_name, [os.urandom(5_000)])
    append(appender, stream_name, [b"the record after it"])
    with pytest.raises(DeliveryError, match="MessageSizeTooLarge"):
        appender.flush(30)
    with pytest.raises(DeliveryError, match="did not take"):
        append(appender, stream_name, [b"and another"])
    with suppress(DeliveryError):
        appender.flush(1)
    assert list(read_to_end(stack.settings(), stream_name)) == [], "what stood behind it must not be there"


def test_what_is_under_way_when_the_broker_dies_comes_once(stack: Any, settings: Settings, topic: str, appender: Appender) -> None:
    """The connections are cut in the middle: batches are asked again, and the broker knows them."""
    values = numbers(0, 20_000)
    for begin in range(0, len(values), 500):
        append(appender, topic, values[begin : begin + 500])
        if begin % 5_000 == 0:
            cut_connections(stack.bootstrap)
    assert appender.flush(60)
    assert [message.value() for batch in read_to_end(settings, topic) for message in batch] == values


def cut_connections(bootstrap: str) -> None:
    """End every connection of this process to the broker as a network would."""
    import socket

    port = int(bootstrap.rpartition(":")[2])
    for one in psutil.Process().net_connections("tcp"):
        if one.raddr and one.raddr.port == port and one.status == psutil.CONN_ESTABLISHED:
            with suppress(OSError), socket.socket(fileno=os.dup(one.fd)) as end:
                end.shutdown(socket.SHUT_RDWR)
