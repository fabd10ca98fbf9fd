"""Topics are made before anyone writes to them: auto-creation is off, so a misspelt name is an error and not a topic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tidemill.errors import Transient
from tidemill.events.topics import Topic


def ensure_topics(bootstrap: str, topics: Iterable[Topic], librdkafka: Mapping[str, str] | None = None) -> list[str]:
    """Create those that are not there, in as many copies as the broker's default says; returns their names.

    What exists is left as it is. `librdkafka`: what the settings pass on. Raises Transient.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2, **(librdkafka or {})})
    wanted = [NewTopic(topic.name, topic.partitions, -1, config=topic.config) for topic in topics]
    created = []
    for name, future in (admin.create_topics(wanted, request_timeout=20) if wanted else {}).items():
        try:
            future.result()
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise Transient(f"topic {name} could not be made on {bootstrap}: {error.args[0].str()}") from error
    return created
