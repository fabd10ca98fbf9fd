"""The data plane's loop on a real broker: whatever happens to a worker, its output is the undisturbed fold's, byte for byte."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.broker import SHORT_SESSION, ends
from tests.integration import toy_folds
from tests.waiting import until
from tidemill import telemetry
from tidemill.bus.consumer import read_to_end, reader
from tidemill.bus.fold import Batch
from tidemill.bus.producer import gapless
from tidemill.bus.tail import Lookup
from tidemill.events.blobs import Blobs
from tidemill.events.identity import hash64, sampled, span_id, trace_id
from tidemill.events.log_header import BARRIER, EVENT, HEADER, LOG_HEADER
from tidemill.events.topics import Topic, load_topics, stream_topics
from tidemill.settings import Settings
from tidemill.stack.topics import ensure_topics
from tidemill.telemetry import Reference
from tidemill.telemetry.files import read_spans

FOLDS = Path(toy_folds.__file__)

QUICK = {"snapshot_records": 3_000, "snapshot_seconds": 0.5}


@dataclass
class Scene:
    """One stream on the broker, and the processes that fold it."""

    settings: Settings
    stream: str
    lives: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def topic(self, family: str) -> str:
        return f"{family}.{self.stream}"

    def write_log(self, numbers: list[int], writer: int = 1, seq: int = 0, barrier: bool = True, partition: int = 0) -> int:
        """Append events as one writer; returns the next sequence number."""
        sender = gapless(self.settings, "test")
        topic = self.topic("log")
        if barrier:
            sender.send(topic, partition, [None], [b"barrier"], [[(HEADER, toy_folds.log_header(BARRIER, seq, writer))]])
            seq += 1
        keys = [b"e%d" % n for n in numbers]
        headers = [[(HEADER, toy_folds.log_header(EVENT, seq + at, writer)), *self.traced(key)] for at, key in enumerate(keys)]
        sender.send(topic, partition, keys, [b"%d" % n for n in numbers], headers)
        assert sender.flush(30)
        return seq + len(numbers)

    def traced(self, key: bytes) -> list[tuple[str, bytes]]:
        """The header of a sampled event."""
        if not sampled(np.array([hash64(key)], np.uint64), self.settings.trace_sample)[0]:
            return []
        return [("traceparent", telemetry.traceparent(log_span(self.stream, key)).encode())]

    def start(self, fold: str = "relay", over: dict[str, Any] | None = None, **options: Any) -> subprocess.Popen[bytes]:
        given = json.loads(self.settings.model_dump_json(exclude={"postgres"})) | (over or {})
        options.setdefault("pace", QUICK)
        command = [sys.executable, str(FOLDS), fold, json.dumps(given), json.dumps(options)]
        with (self.settings.data_dir / f"{fold}.err").open("ab") as said:
            life = subprocess.Popen(command, stderr=said)
        self.lives.append(life)
        return life

    def errors(self, fold: str = "relay") -> str:
        return (self.settings.data_dir / f"{fold}.err").read_text()

    def read(self, family: str, partition: int = 0) -> list[Message]:
        batches = read_to_end(self.settings, self.topic(family))
        return [message for batch in batches for message in batch if message.partition() == partition]

    def count(self, family: str, partition: int = 0) -> int:
        low, high = ends(self.settings, self.topic(family))[partition]
        return high - low

    def reached(self, family: str, partition: int = 0) -> int:
        """How many records have been said, each once: the newest one's number and one."""
        lookup = Lookup(reader(self.settings))
        try:
            newest = lookup.newest(self.topic(family), partition, 1)
            return sum(int(np.frombuffer(one.value() or b"", toy_folds.PREFIX, 1)["seq"][0]) + 1 for one in newest)
        finally:
            lookup.close()

    def truncate(self, family: str, keep: int) -> None:
        """Lose all but the first records of a topic."""
        kept, topic = self.read(family)[:keep], self.topic(family)
        admin = AdminClient({"bootstrap.servers": self.settings.kafka})
        admin.delete_topics([topic])[topic].result(30)
        row = next(row for row in stream_topics(self.stream, [], 1) if row.name == topic)
        until(lambda: topic not in admin.list_topics(timeout=10).topics)
        until(lambda: ensure_topics(self.settings.kafka, [row]))
        sender = gapless(self.settings, "test")
        sender.send(topic, 0, [m.key() for m in kept], [m.value() or b"" for m in kept], [m.headers() for m in kept])  # type: ignore[misc]
        assert sender.flush(30)

    def fold_all(self, want: list[bytes]) -> None:
        """Let a worker run until all is said, and end it as an operator would."""
        life = self.start()
        until(lambda: self.count("features") >= len(want) or life.poll() is not None)
        assert self.stop(life) == 0, self.errors()

    def snapshots(self, fold: str = "relay") -> list[Path]:
        return sorted((self.settings.data_dir / "snapshots" / fold / self.stream / "0").glob("*.npz"))

    def stop(self, life: subprocess.Popen[bytes]) -> int:
        life.send_signal(signal.SIGTERM)
        return life.wait(15)


def log_span(stream: str, key: bytes) -> Reference:
    trace = trace_id(stream, "toy", key.decode())
    return Reference(trace, trace & 0xFFFF | 1)


def numbers(count: int) -> list[int]:
    return [at * 7919 % 10_007 for at in range(count)]


def expected(scene: Scene, count: int, offset: int = 1) -> list[bytes]:
    """What the undisturbed fold says of `numbers(count)` that stand in the log from `offset` on."""
    said: list[bytes] = []
    schema = scene_schema(scene)
    relay = toy_folds.Relay(schema)
    state = relay.initial(scene.stream, 0)
    values = Blobs.of([b"%d" % n for n in numbers(count)])
    log = np.zeros(count, LOG_HEADER)
    keys = Blobs.of([b"e" + value for value in values])
    offsets = np.arange(offset, offset + count)
    batch = Batch("log", scene.stream, 0, offsets, offsets, keys, values, {}, offsets, log)
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
def scene(stack: Any, stream_name: str, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A stream of one shard without traces; a test's parameters may want others."""
    told = getattr(request, "param", {})
    stack.stream(stream_name, "a", shards=told.get("shards", 1))
    stack.topics([_topic(f"said-{stream_name}")])
    share, group = told.get("trace_sample", 0.0), {"group.id": stream_name, **SHORT_SESSION}
    scene = Scene(stack.settings(streams=stream_name, librdkafka=group, trace_sample=share), stream_name)
    scene_schema(scene)
    yield scene
    for life in scene.lives:
        life.kill()
        life.wait()
    for errors in scene.settings.data_dir.glob("*.err"):
        sys.stderr.write(f"{errors.name} {errors.read_text()[-3_000:]}\n")  # shown when the test failed


def _topic(name: str) -> Topic:
    row = load_topics()["monitoring.alert-raised.v1"]
    return Topic(name, "", "", 1, False, row.config, (), "NONE", (), ())


def test_kills_at_random_moments_leave_neither_a_gap_nor_a_second_answer(scene: Scene) -> None:
    count = 150_000
    scene.write_log(numbers(count))
    want = expected(scene, count)
    chance = random.Random(7)
    for kill in range(4):
        life = scene.start(pace={**QUICK, "batch": 200})
        moment = scene.count("features") + chance.randrange(len(want) // 8)
        until(lambda moment=moment: scene.count("features") > moment)
        life.kill()
        life.wait()
        assert scene.count("features") < len(want), f"all was done before kill {kill}"
    last = scene.start()
    until(lambda: scene.reached("features") == len(want))
    assert scene.stop(last) == 0
    assert taken(scene.read("features")) == want
    assert len(scene.snapshots()) == 2


def test_a_second_life_goes_on_where_the_first_was_drained(scene: Scene) -> None:
    seq = scene.write_log(numbers(5_000))
    want = expected(scene, 5_000)
    scene.fold_all(want)
    life = scene.start()
    scene.write_log(numbers(6_000)[5_000:], writer=1, seq=seq, barrier=False)
    want = expected(scene, 6_000)
    until(lambda: scene.count("features") >= len(want))
    assert scene.stop(life) == 0
    assert [message.value() for message in scene.read("features")] == want  # physically once: nothing was folded again
    assert f'"log.{scene.stream}": 5001' in scene.errors()


def test_sigterm_drains_within_ten_seconds_in_full_flight(scene: Scene) -> None:
    scene.write_log(numbers(150_000))
    life = scene.start(pace={**QUICK, "batch": 200})
    until(lambda: scene.count("features") > 0)
    begin = time.monotonic()
    assert scene.stop(life) == 0
    assert time.monotonic() - begin < 10
    done = scene.count("features")
    assert 0 < done < len(expected(scene, 150_000))
    newest = max(scene.snapshots())
    assert int(newest.name.split(".")[0]) > 0
    taken(scene.read("features"))


@pytest.mark.parametrize("both", [False, True], ids=["the newest", "both"])
def test_a_damaged_snapshot_is_passed_over(scene: Scene, both: bool) -> None:
    seq = scene.write_log(numbers(8_000))
    scene.fold_all(expected(scene, 8_000))
    scene.write_log(numbers(9_000)[8_000:], seq=seq, barrier=False)
    scene.fold_all(expected(scene, 9_000))
    for path in scene.snapshots() if both else [max(scene.snapshots())]:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    scene.write_log(numbers(10_000)[9_000:], seq=seq + 1_000, barrier=False)
    want = expected(scene, 10_000)
    scene.fold_all(want)
    assert [message.value() for message in scene.read("features")] == want
    assert '"reason": "damaged"' in scene.errors()


def test_a_snapshot_of_other_code_is_passed_over(scene: Scene) -> None:
    seq = scene.write_log(numbers(3_000))
    scene.fold_all(expected(scene, 3_000))
    scene.write_log(numbers(4_000)[3_000:], seq=seq, barrier=False)
    life = scene.start(code="2")
    want = expected(scene, 4_000)
    until(lambda: scene.count("features") >= len(want))
    assert scene.stop(life) == 0
    assert [message.value() for message in scene.read("features")] == want
    assert '"reason": "foreign"' in scene.errors()


def test_a_truncated_output_is_said_again(scene: Scene) -> None:
    scene.write_log(numbers(6_000))
    want = expected(scene, 6_000)
    scene.fold_all(want)
    scene.truncate("features", 1_000)
    scene.fold_all(want)
    assert [message.value() for message in scene.read("features")] == want
    assert '"reason": "output-cut"' in scene.errors()


def test_an_output_ahead_of_its_log_stops_the_worker(scene: Scene) -> None:
    scene.write_log(numbers(3_000))
    scene.fold_all(expected(scene, 3_000))
    scene.truncate("log", 2_000)
    life = scene.start()
    assert life.wait(30) == 1
    assert "output ahead of its log" in scene.errors()


def test_an_output_of_another_log_stops_the_worker(scene: Scene) -> None:
    scene.write_log(numbers(3_000))
    scene.fold_all(expected(scene, 3_000))
    said = scene.count("features")
    scene.truncate("log", 0)
    scene.write_log([n + 1 for n in numbers(4_000)])
    life = scene.start()
    assert life.wait(30) == 1
    assert "output ahead of its log" in scene.errors()
    assert scene.count("features") == said


def test_a_dead_writers_late_batch_is_ignored(scene: Scene) -> None:
    seq = scene.write_log(numbers(1_000), writer=11)
    next_seq = scene.write_log(numbers(1_500)[1_000:], writer=12, seq=seq)
    scene.write_log(numbers(400), writer=11, seq=seq, barrier=False)
    scene.write_log(numbers(2_000)[1_500:], writer=12, seq=next_seq, barrier=False)
    want = [row[29:] for row in expected(scene, 2_000)]  # without places, which the late batch moves
    scene.fold_all(expected(scene, 2_000))
    assert [row[29:] for row in taken(scene.read("features"))] == want


def test_a_gap_in_the_log_stops_the_worker(scene: Scene) -> None:
    seq = scene.write_log(numbers(500))
    scene.write_log(numbers(100), seq=seq + 1, barrier=False)
    life = scene.start()
    assert life.wait(30) == 1
    assert f"record {seq} is missing" in scene.errors()
    taken(scene.read("features"))


def test_what_is_away_is_waited_for(scene: Scene) -> None:
    scene.write_log(numbers(1_000))
    want = expected(scene, 1_000)
    life = scene.start(away=3)
    until(lambda: scene.count("features") >= len(want))
    assert scene.stop(life) == 0
    assert [message.value() for message in scene.read("features")] == want
    assert scene.errors().count("the schemas are away") >= 3


def test_several_inputs_meet_in_one_state_and_a_shared_topic_hears_once(scene: Scene) -> None:
    scene.write_log(numbers(60_000))
    topic = f"said-{scene.stream}"
    pairs = len(expected(scene, 60_000))
    scene.start("relay")
    scene.start("echo")
    until(lambda: scene.count("features") > 0)
    want = [f"{scene.stream}-{number}".encode() for number in range(pairs // toy_folds.EVERY)]
    for _ in range(3):
        watch, had = scene.start("watch", topic=topic, pace={**QUICK, "batch": 100}), len(said(scene, topic))
        until(lambda had=had: len(said(scene, topic)) > had or had == len(want))
        watch.kill()
        watch.wait()
    before = scene.errors("watch").count("partition opened")
    scene.start("watch", topic=topic)
    until(lambda: scene.errors("watch").count("partition opened") > before and len(said(scene, topic)) >= len(want))
    assert said(scene, topic) == want
    assert [life.send_signal(signal.SIGTERM) or life.wait(15) for life in scene.lives if life.poll() is None] == [0, 0, 0]
    assert said(scene, topic) == want


def test_an_input_that_was_paused_goes_on_after_another_stream_came(scene: Scene) -> None:
    scene.write_log(numbers(10_000))
    topic, other = f"said-{scene.stream}", f"{scene.stream}-2"
    want = [f"{scene.stream}-{number}".encode() for number in range(len(expected(scene, 10_000)) // toy_folds.EVERY)]
    scene.start("relay")
    until(lambda: scene.count("features") >= len(expected(scene, 10_000)))
    scene.start("watch", over={"streams": f"{scene.stream}.*"}, topic=topic, pace={**QUICK, "snapshot_records": 100, "batch": 100})
    until(lambda: committed(scene, "watch") >= 500)  # of more it takes none, before it has the predictions
    ensure_topics(
        scene.settings.kafka,
        [row for row in stream_topics(other, [], 1) if row.name in (f"features.{other}", f"predictions.{other}")],
    )
    until(lambda: other in scene.errors("watch"))
    scene.start("echo")
    until(lambda: len(said(scene, topic)) >= len(want))
    assert said(scene, topic) == want


def committed(scene: Scene, fold: str) -> int:
    """The offset of the fold's group in the features."""
    consumer = Consumer({"bootstrap.servers": scene.settings.kafka, "group.id": f"{scene.settings.librdkafka['group.id']}-{fold}"})
    (place,) = consumer.committed([TopicPartition(scene.topic("features"), 0)], 10)
    consumer.close()
    return place.offset


def said(scene: Scene, topic: str) -> list[bytes | None]:
    return [message.value() for batch in read_to_end(scene.settings, topic) for message in batch]


@pytest.mark.parametrize("scene", [{"shards": 2}], indirect=True)
def test_workers_share_partitions_and_take_over_from_each_other(scene: Scene, tmp_path: Path) -> None:
    for partition in (0, 1):
        scene.write_log(numbers(30_000), partition=partition)
    want = expected(scene, 30_000)
    first = scene.start(pace={**QUICK, "batch": 200})
    until(lambda: scene.count("features", 0) > 0 and scene.count("features", 1) > 0)
    second = scene.start(over={"data_dir": str(tmp_path)}, pace={**QUICK, "batch": 200})
    until(lambda: scene.count("features", 0) >= len(want) and scene.count("features", 1) >= len(want))
    until(lambda: len(list(tmp_path.glob("snapshots/relay/*/*/*.npz"))) > 0 or second.poll() is not None)
    first.kill()  # the other takes its partition when the session is over
    first.wait()
    for partition in (0, 1):
        scene.write_log(numbers(31_000)[30_000:], seq=30_001, barrier=False, partition=partition)
    want = expected(scene, 31_000)
    for partition in (0, 1):
        until(lambda partition=partition: scene.reached("features", partition) == len(want))
        assert taken(scene.read("features", partition)) == want
    assert scene.stop(second) == 0


@pytest.mark.parametrize("scene", [{"trace_sample": 0.02}], indirect=True)
def test_sampled_events_leave_linked_spans_over_all_hops(scene: Scene) -> None:
    scene.write_log(numbers(3_000))
    want = expected(scene, 3_000)
    lives = [scene.start("relay"), scene.start("echo")]
    until(lambda: scene.count("predictions") >= len(want))
    assert [scene.stop(life) for life in lives] == [0, 0]
    spans = list(read_spans(scene.settings.data_dir))
    by_id = {(span["traceId"], span["spanId"]): span for span in spans}
    traced = [row for row in scene.read("features") if scene.traced(row.key() or b"")]
    assert 20 < len(traced) < 150
    for row in traced:
        position = int(np.frombuffer(row.value() or b"", toy_folds.PREFIX, 1)["position"][0])
        log = log_span(scene.stream, row.key() or b"")
        vector = by_id[f"{log.trace:032x}", f"{span_id(log.trace, 'vector', 0, position):016x}"]
        assert (vector["name"], vector["parentSpanId"], vector["service"]) == ("vector", f"{log.span:016x}", "relay")
        prediction = by_id[f"{log.trace:032x}", f"{span_id(log.trace, 'prediction', 0, position):016x}"]
        assert prediction["service"] == "echo"
        assert prediction["parentSpanId"] in {span["spanId"] for span in spans if span["name"] in ("vector", "second")}
        assert dict(row.headers() or ())["traceparent"].decode().startswith(f"00-{log.trace:032x}-")  # type: ignore[arg-type]
    assert not [row for row in scene.read("features") if row.headers() and not scene.traced(row.key() or b"")]
    batches = [span for span in spans if span["name"] == f"process log.{scene.stream}"]
    assert batches and all(span["links"] for span in batches)
    sent = {
        (link["traceId"], link["spanId"])
        for span in spans
        if span["name"] == f"send features.{scene.stream}"
        for link in span["links"]
    }
    assert sent == {(span["traceId"], span["spanId"]) for span in spans if span["name"] in ("vector", "second")}
