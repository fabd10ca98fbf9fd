"""Where a service's topics stand on the broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from tidemill.bus.consumer import own_headers
from tidemill.errors import Transient
from tidemill.events.dead import Record
from tidemill.settings import Settings

_TIMEOUT = 10.0


class Places:
    """A plain consumer that never joins a group: watermarks, a group's start, records that were passed over. Safe for threads."""

    def __init__(self, settings: Settings, group: str, topics: Sequence[str]) -> None:
        self.group, self._topics, self._lock = group, tuple(topics), threading.Lock()
        config: dict[str, str | int | float | bool] = {"bootstrap.servers": settings.kafka, **settings.librdkafka}
        self._admin = AdminClient(config)
        reading: dict[str, str | int | float | bool] = {
            "group.id": self.group,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "isolation.level": "read_uncommitted",  # as Faust reads, or what it takes would not be found
        }
        self._consumer = Consumer({**config, **reading})

    def begin(self, heard: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
        """Set the group's offsets from what the database says was heard (else the topics' begin), and return them.

        Raises Transient where a topic is not there yet; RuntimeError where the topic is not the one that was heard.
        """
        starts = {}
        for (topic, partition), (low, high) in self.watermarks().items():
            start = heard.get((topic, partition), low)
            if not low <= start <= high:
                raise RuntimeError(
                    f"{topic}/{partition} holds {low}..{high}, but {start} is next by the database: not the same topic"
                )
            starts[topic, partition] = start
        with self._lock:
            try:
                places = [TopicPartition(*place, start) for place, start in starts.items()]
                self._consumer.commit(offsets=places, asynchronous=False)
            except KafkaException as error:
                raise Transient(f"the group's offsets cannot be set: {error}") from error
        return starts

    def watermarks(self) -> dict[tuple[str, int], tuple[int, int]]:
        """First and next offset of each partition; raises Transient."""
        with self._lock:
            try:
                known = self._consumer.list_topics(timeout=_TIMEOUT).topics
                if missing := [name for name in self._topics if name not in known or known[name].error]:
                    raise Transient(f"there are no topics {', '.join(missing)}")
                places = [(topic, partition) for topic in self._topics for partition in known[topic].partitions]
                return {place: self._consumer.get_watermark_offsets(TopicPartition(*place), _TIMEOUT) for place in places}
            except KafkaException as error:
                raise Transient(f"the broker does not answer: {error}") from error

    def between(self, topic: str, partition: int, first: int, end: int) -> list[Record]:
        """The records from offset `first` up to `end` (exclusive); raises Transient."""
        with self._lock:
            self._consumer.assign([TopicPartition(topic, partition, first)])
            try:
                return list(self._read(end))
            except KafkaException as error:
                raise Transient(f"the broker does not answer: {error}") from error
            finally:
                self._consumer.unassign()

    def _read(self, end: int) -> Iterator[Record]:
        until = time.monotonic() + _TIMEOUT
        while time.monotonic() < until:
            for message in self._consumer.consume(100, 0.2):
                ended = _ended(message)
                if (message.offset() or 0) >= end:
                    return
                if not ended:
                    yield _record_of(message)
        raise Transient("records that were passed over cannot be read again")

    def forget(self, groups: Sequence[str]) -> None:
        """Delete groups, where nobody is in them; returns at once."""
        if groups:
            self._admin.delete_consumer_groups(list(groups))


def _ended(message: Message) -> bool:
    """Whether this says that the partition ends here (its offset is the end's), and is no record. Raises KafkaException."""
    error = message.error()
    if error is not None and error.code() != KafkaError._PARTITION_EOF:
        raise KafkaException(error)
    return error is not None


def _record_of(message: Message) -> Record:
    place = str(message.topic()), message.partition() or 0, message.offset() or 0
    return Record(*place, message.key(), message.value(), own_headers(message))
