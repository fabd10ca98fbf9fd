"""A stranger's program: reads topics with the Kafka client and the registry's stock deserializer, and no Tidemill.

    tidemill status --output json | python plain_reader.py TOPIC...

prints one JSON object per record.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext


@dataclass(frozen=True, slots=True)
class Record:
    """One record; `name` is its type's."""

    offset: int
    key: str | None
    headers: dict[str, bytes]
    name: str
    fields: dict[str, Any]


def read(kafka: str, registry_url: str, topic: str) -> Iterator[Record]:
    """All that a topic of one partition holds now."""
    context, names = SerializationContext(topic, MessageField.VALUE), dict[int, str]()
    with SchemaRegistryClient({"url": registry_url}) as registry:
        decode = AvroDeserializer(registry)
        for message in messages(kafka, topic):
            key, value = message.key(), message.value()
            number = int.from_bytes(value[1:5], "big")
            if number not in names:
                names[number] = json.loads(registry.get_schema(number).schema_str)["name"]
            fields = decode(value, context)
            yield Record(message.offset(), key and key.decode(), dict(message.headers() or ()), names[number], fields)


def messages(kafka: str, topic: str) -> Iterator[Message]:
    """As the broker has them."""
    consumer, part = Consumer({"bootstrap.servers": kafka, "group.id": "plain-reader"}), TopicPartition(topic, 0, 0)
    _, end = consumer.get_watermark_offsets(part)
    consumer.assign([part])
    count = 0
    while count < end:
        for message in consumer.consume(5_000, 1.0):
            if message.error():
                raise RuntimeError(message.error())
            count = message.offset() + 1
            yield message
    consumer.close()


def digest(fields: dict[str, Any]) -> str:
    """Of a record's numbers, as big-endian doubles, without what is missing: the same in every language."""
    numbers = [value for value in fields.values() if isinstance(value, int | float) and not isinstance(value, bool)]
    present = [number for number in numbers if not math.isnan(number)]
    return hashlib.sha256(struct.pack(f">{len(present)}d", *present)).hexdigest()


def main() -> None:
    """Print every record of the topics."""
    status = json.load(sys.stdin)
    for topic in sys.argv[1:]:
        for record in read(status["kafka"], status["schema_registry"], topic):
            line = {"topic": topic, "name": record.name, "key": record.key, "digest": digest(record.fields)}
            sys.stdout.write(json.dumps(line) + "\n")
    foreign = {name.partition(".")[0] for name in sys.modules} & {"tidemill", "services"}
    if foreign:
        raise SystemExit(f"not plain: {foreign} were imported")


if __name__ == "__main__":
    main()
