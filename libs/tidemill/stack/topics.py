"""Topics are made before anyone writes to them: auto-creation is off, so a misspelt name is an error and not a topic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tidemill.events.topics import Topic, control_topics
from tidemill.settings import Settings


def ensure_topics(bootstrap: str, topics: Iterable[Topic], librdkafka: Mapping[str, str] | None = None) -> list[str]:
    """Create those that are not there; returns their names. What exists is left as it is. `librdkafka`: what the settings pass on."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2, **(librdkafka or {})})
    wanted = [NewTopic(topic.name, topic.partitions, 1, config=topic.config) for topic in topics]
    created = []
    for name, future in (admin.create_topics(wanted) if wanted else {}).items():
        try:
            future.result(30)
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    return created


def main() -> None:
    """Create the topics that exist once on the broker of the settings, for a stack that `tidemill up` did not start."""
    settings = Settings.load()
    ensure_topics(settings.kafka, control_topics(), settings.librdkafka)


if __name__ == "__main__":
    main()
