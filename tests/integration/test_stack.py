"""The whole local stack, without services: it goes on where it stopped, listens on loopback alone, and leaves nothing behind."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import psycopg
from confluent_kafka import KafkaError, Message, Producer

from tests.sockets import LOOPBACK, listening
from tidemill.events.schema_registry import Registry
from tidemill.events.topics import control_topics, stream_topics
from tidemill.stack.state import State
from tidemill.stack.topics import ensure_topics

SCHEMA = {"type": "record", "name": "Tide", "namespace": "test", "fields": [{"name": "height", "type": "double"}]}


def tidemill(command: str, data_dir: Path, *options: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "tidemill.cli.main", command, "--data-dir", str(data_dir), *options]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def up(data_dir: Path) -> State:
    done = tidemill("up", data_dir, "--no-services", "--detach")
    assert done.returncode == 0, done.stderr
    state = State.read(data_dir)
    assert state is not None
    return state


def test_the_stack_goes_on_where_it_stopped_and_leaves_nothing_behind(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    assert tidemill("status", data_dir).returncode == 1
    try:
        first = up(data_dir)
        said = json.loads(tidemill("status", data_dir, "--output", "json").stdout)
        assert {"kafka", "schema_registry", "postgres", "services"} <= said.keys()
        assert listening(first) <= LOOPBACK
        number = Registry(first.schema_registry).register("test.Tide", SCHEMA)
        assert ensure_topics(first.kafka, stream_topics("flights", ("departures",), 1)) != []
        assert written_to_no_topic(first.kafka) == KafkaError.UNKNOWN_TOPIC_OR_PART
        with psycopg.connect(first.postgres) as connection:
            connection.execute("CREATE TABLE tide (height float)")

        ended = re.fullmatch(r"ended after ([0-9.]+) s\n", tidemill("down", data_dir).stdout)
        assert ended is not None
        assert float(ended[1]) < 10
        assert first.all_living() == []

        second = up(data_dir)
        assert (second.kafka, second.schema_registry) == (first.kafka, first.schema_registry)
        assert Registry(second.schema_registry).register("test.Tide", SCHEMA) == number
        assert ensure_topics(second.kafka, [*control_topics(), *stream_topics("flights", ("departures",), 1)]) == []
        with psycopg.connect(second.postgres) as connection:
            assert connection.execute("SELECT count(*) FROM tide").fetchone() == (0,)
    finally:
        tidemill("down", data_dir)
    assert second.all_living() == []


def written_to_no_topic(kafka: str) -> int | None:
    """The code of the error that a plain producer gets for a record to a topic that nobody made."""
    heard: list[int] = []

    def hear(error: KafkaError | None, _: Message) -> None:
        heard.extend([error.code()] if error else [])

    producer = Producer({"bootstrap.servers": kafka, "topic.metadata.propagation.max.ms": 100})
    producer.produce("nobody-made-this", b"v", on_delivery=hear)
    producer.flush(30)
    assert "nobody-made-this" not in producer.list_topics(timeout=30).topics
    return heard[0] if heard else None
