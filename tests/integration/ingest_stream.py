"""A stream on the real broker, and ingest as a process of its own that writes its log."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.broker import ends
from tests.columns import fetched
from tests.conftest import Stack
from tests.unit.ingest import world
from tests.waiting import until
from tidemill.bus.consumer import read_to_end, reader
from tidemill.bus.control_client import Publisher
from tidemill.bus.fold import Batch, Input
from tidemill.bus.intake import Place, intake
from tidemill.bus.producer import gapless
from tidemill.cli.apply import register
from tidemill.events import feed, log_header, spec, wire
from tidemill.events.base import Event
from tidemill.events.deadletters import DeadLetter
from tidemill.events.topics import stream_topics
from tidemill.settings import Settings
from tidemill.spec import Bundle
from tidemill.stack.topics import ensure_topics


@dataclass
class Stream:
    """Sources a and b of tests.unit.ingest.world, under a name of its own."""

    stack: Stack
    name: str
    over: dict[str, Any] = field(default_factory=dict)
    lives: list[Ingest] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ids = register(world.bundle(stream=self.name), self.stack.registry)
        self.stack.stream(self.name, "a", "b", shards=self.over.get("shards", 1))
        self.settings = self.stack.settings(streams=self.name, librdkafka={"group.id": f"test-{self.name}"}, snapshot_seconds=0.5)
        self._producer = Producer({"bootstrap.servers": self.stack.bootstrap, "linger.ms": 2, "message.max.bytes": 10_000_000})

    def bundle(self, **over: Any) -> Bundle:
        return world.bundle(stream=self.name, ids=self.ids, **{**self.over, **over})

    def apply(self, **over: Any) -> Bundle:
        """Publish the spec, as `tidemill apply` does."""
        bundle = self.bundle(**over)
        with Publisher(self.settings, "test") as publisher:
            said = spec.Applied(stream=self.name, digest=bundle.digest, author="t", content=bundle.to_json(), applied_at=0)
            publisher.publish(said)
        return bundle

    def event(self, source: str, id: str | None, at: int, amount: float = 1.0, share: float | None = None) -> bytes:
        return world.event(source, id, at, amount, schema_id=self.ids[source], share=share)

    def promise(self, source: str, until: int, ended: bool = False) -> bytes:
        said = feed.Progressed(source=source, until=until, ended=ended)
        return wire.frame(self.ids[feed.Progressed.full_name()], wire.datum(said))

    def send(self, source: str, values: Iterable[bytes | None], headers: dict[str, bytes] | None = None) -> None:
        """Append raw values, acknowledged; `headers` are each one's."""
        for value in values:
            while True:
                try:
                    self._producer.produce(f"raw.{self.name}.{source}", value, partition=0, headers=headers or {})
                    break
                except BufferError:
                    self._producer.poll(0.1)
        assert self._producer.flush(30) == 0

    def truncate(self, topic: str, keep: int) -> None:
        """Lose all but the first records of a topic."""
        kept = [message for part in read_to_end(self.settings, topic) for message in part][:keep]
        admin = AdminClient({"bootstrap.servers": self.stack.bootstrap})
        admin.delete_topics([topic])[topic].result(30)
        until(lambda: topic not in admin.list_topics(timeout=10).topics, "the end of the topic")
        row = next(row for row in stream_topics(self.name, ["a", "b"], 1) if row.name == topic)
        until(lambda: ensure_topics(self.settings.kafka, [row]), "the topic again")
        sender = gapless(self.settings, "test")
        sender.send(topic, 0, [m.key() for m in kept], [m.value() or b"" for m in kept], [m.headers() for m in kept])  # type: ignore[misc]
        assert sender.flush(30)

    def start(self, **environment: str) -> Ingest:
        self.lives.append(Ingest(self.stack, self.settings, self.name, environment))
        return self.lives[-1]

    def end(self) -> None:
        for life in self.lives:
            life.kill()

    def log(self, shard: int = 0) -> Batch | None:
        """The valid records, as a reader of the log sees them."""
        messages = [m for part in read_to_end(self.settings, f"log.{self.name}") for m in part if m.partition() == shard]
        return intake(Input("log", log=True), f"log.{self.name}", shard, fetched(messages), Place())[0] if messages else None

    def count(self) -> int:
        """How many records the first shard's log has, whoever wrote them."""
        low, high = ends(self.settings, f"log.{self.name}")[0]
        return high - low

    def events(self, shard: int = 0) -> list[tuple[str, bytes]]:
        """(id, value) of the log's events."""
        batch = self.log(shard)
        if batch is None or batch.log is None:
            return []
        return [(batch.keys[i].decode(), batch.values[i]) for i in np.flatnonzero(batch.log["kind"] == log_header.EVENT).tolist()]

    def letters(self) -> list[DeadLetter]:
        """This stream's dead letters, each as often as it was said."""
        letters = [_event(self.stack, m) for part in read_to_end(self.settings, "dead-letters") for m in part]
        return [one for one in letters if isinstance(one, DeadLetter) and one.topic.startswith(f"raw.{self.name}.")]

    def dead(self) -> dict[tuple[str, int], DeadLetter]:
        """The dead letters by source and raw offset; one said twice is there once."""
        return {(one.topic.rpartition(".")[2], one.offset): one for one in self.letters()}

    def judged(self, source: str) -> int:
        """The raw offset below which all is judged, as the broker keeps it for the first shard."""
        consumer = reader(self.settings, group=f"ingest-{self.name}-0")
        try:
            (place,) = consumer.committed([TopicPartition(f"raw.{self.name}.{source}", 0)], timeout=30)
            return place.offset
        finally:
            consumer.close()


def _event(stack: Stack, message: Message) -> Event | dict[str, Any]:
    return wire.decode(message.value() or b"", _registry(stack))


_REGISTRIES: dict[str, Any] = {}


def _registry(stack: Stack) -> Any:
    return _REGISTRIES.setdefault(stack.registry_url, stack.registry)


class Ingest:
    """One life of the service."""

    def __init__(self, stack: Stack, settings: Settings, stream: str, environment: dict[str, str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        told = {**stack.environment(settings, http_port=self.port), "TIDEMILL_STREAMS": settings.streams, **environment}
        told["TIDEMILL_SNAPSHOT_SECONDS"] = str(settings.snapshot_seconds)
        self.output = Path(settings.data_dir) / f"ingest-{os.getpid()}-{time.monotonic_ns()}.log"
        with self.output.open("wb") as out:
            self.process = subprocess.Popen([sys.executable, "-m", "services.ingest"], env=told, stdout=out, stderr=out)
        self.stream = stream

    def ready(self) -> Ingest:
        """Wait until its shards are written."""
        until(self._ready, f"ready\n{self.tail()}")
        return self

    def _ready(self) -> bool:
        assert self.process.poll() is None, f"ingest ended with {self.process.returncode}\n{self.tail()}"
        code, body = self.get("/health/ready") if self.listens() else (0, {})
        return code == 200 and bool(body["shards"])

    def listens(self) -> bool:
        """Whether its HTTP door is open."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def get(self, path: str) -> tuple[int, Any]:
        return self._call("GET", path, None)

    def post(self, source: str, body: Any, stream: str | None = None) -> tuple[int, Any]:
        """Post an event, several, or raw bytes; (status, answer)."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._call("POST", f"/v1/streams/{stream or self.stream}/{source}", data)

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    def kill(self) -> None:
        """As power loss would."""
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)

    def tail(self) -> str:
        return self.output.read_text()[-3000:]

    def _call(self, method: str, path: str, data: bytes | None) -> tuple[int, Any]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())
