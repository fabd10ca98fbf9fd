"""The data plane's loop on a real broker: whatever happens to a worker, its output is the undisturbed fold's, byte for byte."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Message

from tidemill.bus.consumer import read_to_end, reader, watermarks
from tidemill.bus.fold import Batch
from tidemill.bus.producer import gapless
from tidemill.events.log import BARRIER, EVENT, HEADER, LOG_HEADER
from tidemill.events.topics import Topic, load_topics
from tidemill.settings import Settings

FOLDS = Path(__file__).with_name("toy_folds.py")
sys.path.insert(0, str(FOLDS.parent))
import toy_folds  # noqa: E402 - the processes run the same file

QUICK = {"snapshot_records": 3_000, "snapshot_seconds": 0.5}


@dataclass
class Scene:
    """One stream on the broker, and the processes that fold it."""

    settings: Settings
    stream: str
    lives: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def topic(self, family: str) -> str:
        return f"{family}.{self.stream}"

    def write_log(self, numbers: list[int], writer: int = 1, seq: int = 0, barrier: bool = True) -> int:
        """Append events as one writer; returns the next sequence number."""
        sender = gapless(self.settings, "test")
        topic = self.topic("log")
        if barrier:
            sender.send(topic, 0, [None], [b"barrier"], [[(HEADER, toy_folds.log_header(BARRIER, seq, writer))]])
            seq += 1
        headers = [[(HEADER, toy_folds.log_header(EVENT, seq + at, writer, at))] for at in range(len(numbers))]
        sender.send(topic, 0, [b"e%d" % n for n in numbers], [b"%d" % n for n in numbers], headers)
        assert sender.flush(30)
        return seq + len(numbers)

    def start(self, fold: str = "relay", **options: Any) -> subprocess.Popen[bytes]:
        given = json.loads(self.settings.model_dump_json(exclude={"postgres"}))
        options.setdefault("pace", QUICK)
        command = [sys.executable, str(FOLDS), fold, json.dumps(given), json.dumps(options)]
        with (self.settings.data_dir / f"{fold}.err").open("ab") as said:
            life = subprocess.Popen(command, stderr=said)
        self.lives.append(life)
        return life

    def errors(self, fold: str = "relay") -> str:
        return (self.settings.data_dir / f"{fold}.err").read_text()

    def read(self, family: str) -> list[Message]:
        return [message for batch in read_to_end(self.settings, self.topic(family)) for message in batch]

    def count(self, family: str) -> int:
        consumer = reader(self.settings)
        low, high = watermarks(consumer, self.topic(family))[0]
        consumer.close()
        return high - low

    def snapshots(self, fold: str = "relay") -> list[Path]:
        return sorted((self.settings.data_dir / "snapshots" / fold / self.stream / "0").glob("*.npz"))

    def stop(self, life: subprocess.Popen[bytes]) -> int:
        life.send_signal(signal.SIGTERM)
        return life.wait(15)


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def numbers(count: int) -> list[int]:
    return [at * 7919 % 10_007 for at in range(count)]


def expected(scene: Scene, count: int, offset: int = 1) -> list[bytes]:
    """What the undisturbed fold says of `numbers(count)` that stand in the log from `offset` on."""
    said: list[bytes] = []
    schema = scene_schema(scene)
    relay = toy_folds.Relay(schema)
    state = relay.initial(scene.stream, 0)
    values = [b"%d" % n for n in numbers(count)]
    log = np.zeros(count, LOG_HEADER)
    log["stream"] = np.arange(count)
    keys: list[bytes | None] = [b"e" + value for value in values]
    offsets = np.arange(offset, offset + count)
    batch = Batch("log", scene.stream, 0, offsets, offsets, keys, values, [None] * count, offsets, log)
    state, rows = relay.step(state, batch)
    said += rows[0].values
    return said


def scene_schema(scene: Scene) -> int:
    return toy_folds.Registry(scene.settings.schema_registry).register("toy.Vector", toy_folds.VECTOR)


def taken(messages: list[Message], width: int = 8) -> list[bytes]:
    """What a reader takes: last + 1, lower dropped, a gap is an error."""
    rows: list[bytes] = []
    for message in messages:
        value = message.value() or b""
        seq = int(np.frombuffer(value, toy_folds.PREFIX, 1)["seq"][0])
        assert seq <= len(rows), f"record {len(rows)} is missing"
        if seq == len(rows):
            rows.append(value)
        else:
            assert rows[seq] == value, "a repeat differs"
    return rows


@pytest.fixture
def scene(stack: Any, stream_name: str) -> Iterator[Scene]:
    stack.stream(stream_name, "a")
    stack.topics([_topic(f"said-{stream_name}")])
    scene = Scene(stack.settings(streams=stream_name, librdkafka={"group.id": stream_name}, trace_sample=0.0), stream_name)
    scene_schema(scene)
    yield scene
    for life in scene.lives:
        life.kill()
        life.wait()


def _topic(name: str) -> Topic:
    row = load_topics()["monitoring.alert-raised.v1"]
    return Topic(name, "", "", 1, False, row.config, (), "NONE", (), ())


def test_kills_at_random_moments_leave_neither_a_gap_nor_a_second_answer(scene: Scene) -> None:
    count = 200_000
    scene.write_log(numbers(count))
    want = expected(scene, count)
    chance = random.Random(7)
    for kill in range(5):
        life, had = scene.start(pace={**QUICK, "batch": 200}), scene.count("features")
        until(lambda had=had: scene.count("features") > had)
        time.sleep(chance.uniform(0, 0.2))  # the moment of the kill, not a wait
        life.kill()
        life.wait()
        assert scene.count("features") < len(want), f"all was done before kill {kill}"
    last = scene.start()
    until(lambda: len(taken(scene.read("features"))) == len(want))
    assert scene.stop(last) == 0
    assert taken(scene.read("features")) == want
    assert len(scene.snapshots()) == 2
