"""A use case is applied to the real broker and registry; dead raw records are sent once more."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.conftest import Stack
from tidemill.bus.control_client import Publisher, read_all
from tidemill.cli.apply import plan_of
from tidemill.cli.dlq import redrivable, send, unsent
from tidemill.errors import Refused, Rejected, Transient
from tidemill.events import training, wire
from tidemill.events.dead import Record, dead_letter
from tidemill.events.deadletters import DeadLetter
from tidemill.events.schema_registry import Registry, UnknownSchema
from tidemill.events.spec import Applied
from tidemill.events.topics import control_topics
from tidemill.features.vector import vector_schema
from tidemill.settings import Settings
from tidemill.spec import Bundle, load

FLIGHTS = Path(__file__).parents[2] / "usecases" / "flights"


@pytest.fixture
def folder(tmp_path: Path, stream_name: str) -> Path:
    """The flights use case under a name of its own."""
    place = tmp_path / "case"
    shutil.copytree(FLIGHTS, place)
    rewrite(place / "stream.yaml", "stream: flights", f"stream: {stream_name}")
    rewrite(place / "models" / "late-arrival.yaml", "flights.departure", f"{stream_name}.departure")
    for path in place.glob("schemas/*.avsc"):
        rewrite(path, '"namespace": "flights"', f'"namespace": "{stream_name.replace("-", "_")}"')
    return place


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def tidemill(stack: Stack, settings: Settings, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tidemill.cli.main", *words, "--data-dir", str(settings.data_dir)]
    environment = {
        **os.environ,
        "TIDEMILL_KAFKA": stack.bootstrap,
        "TIDEMILL_SCHEMA_REGISTRY": stack.registry_url,
        "COLUMNS": "200",
    }
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)


def apply(stack: Stack, settings: Settings, folder: Path, *words: str) -> dict[str, Any]:
    done = tidemill(stack, settings, "apply", str(folder), "--author", "grace", "--output", "json", *words)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def applied(settings: Settings, stream: str) -> list[Applied]:
    heard = [one.event for one in read_all(settings, [Applied])]
    return [event for event in heard if isinstance(event, Applied) and event.stream == stream]


def test_apply_publishes_what_folds_need_and_only_when_something_changed(stack: Stack, stream_name: str, folder: Path) -> None:
    settings = stack.settings()
    stack.topics(control_topics())
    assert not apply(stack, settings, folder, "--dry-run")["applied"]
    assert f"log.{stream_name}" not in AdminClient({"bootstrap.servers": stack.bootstrap}).list_topics(timeout=10).topics

    assert apply(stack, settings, folder)["applied"]
    [event] = applied(settings, stream_name)
    bundle = Bundle.from_json(event.content)
    registry = Registry(stack.registry_url)
    assert (event.author, bundle.author, event.digest, event.previous) == ("grace", "grace", bundle.digest, None)
    assert registry.schema(bundle.ids["departures"]) == bundle.schemas["departures"]
    assert registry.schema(bundle.ids["vector:departure"]) == vector_schema(bundle, "departure")
    assert registry.id_of(training.RunFailed) not in bundle.ids.values()
    topics = AdminClient({"bootstrap.servers": stack.bootstrap}).list_topics(timeout=10).topics
    assert {f"raw.{stream_name}.weather", f"log.{stream_name}", f"features.{stream_name}"} <= set(topics)

    assert not apply(stack, settings, folder, "--author", "heidi")["applied"], "another author of the same is no change"
    rewrite(folder / "models" / "late-arrival.yaml", "below: 0.05", "below: 0.06")
    answer = apply(stack, settings, folder)
    assert answer["changes"] == [{"path": "models.late-arrival.gates.calibrated.below", "before": "0.05", "after": "0.06"}]
    assert [one.previous for one in applied(settings, stream_name)] == [None, event.digest]


def test_a_change_that_cannot_be_is_refused_with_its_reason(stack: Stack, stream_name: str, folder: Path) -> None:
    settings = stack.settings()
    apply(stack, settings, folder)
    rewrite(folder / "schemas" / "arrival.v1.avsc", '"name": "air_time"', '"name": "time_in_air"')
    done = tidemill(stack, settings, "apply", str(folder))
    assert done.returncode == 1
    assert "incompatible-schema" in done.stderr
    assert "time_in_air is missing and has no default" in done.stderr
    assert len(applied(settings, stream_name)) == 1


def test_the_number_of_shards_is_fixed_for_a_logs_life(stack: Stack, folder: Path) -> None:
    settings = stack.settings()
    apply(stack, settings, folder)
    bundle = load(folder)
    wider = bundle.model_copy(update={"stream": bundle.stream.model_copy(update={"shards": 2})})
    with pytest.raises(Refused, match="fixed-shards"):
        plan_of(wider, settings)


def test_validate_tells_what_it_inferred_or_what_is_wrong(folder: Path) -> None:
    command = [sys.executable, "-m", "tidemill.cli.main", "validate", str(folder), "--output", "json"]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert told["vectors"] == {"departure": 9 + 10 + 28}
    assert {"view": "weather_now", "feature": "rain", "agg": "sum", "window": "3h", "slide": "6m", "tiles": 30} in told["windows"]
    rewrite(folder / "stream.yaml", "agg: max", "agg: maximum")
    done = subprocess.run(command[:-2], capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 1
    assert "stream.yaml:27: views.origin_traffic.features.delay_max.agg: 'maximum' is not possible" in done.stderr


def test_the_registry_keeps_to_a_subjects_rule(stack: Stack, stream_name: str) -> None:
    name = stream_name.replace("-", "_")
    first: dict[str, Any] = {"type": "record", "name": name, "namespace": "t", "fields": [{"name": "a", "type": "int"}]}
    grown = first | {"fields": [*first["fields"], {"name": "b", "type": ["null", "string"], "default": None}]}
    broken = first | {"fields": [*first["fields"], {"name": "b", "type": "string"}]}
    registry = Registry(stack.registry_url)
    number = registry.register(f"t.{name}", first, "BACKWARD_TRANSITIVE")
    assert Registry(stack.registry_url).register(f"t.{name}", first) == number
    assert registry.register(f"t.{name}", grown) != number
    with pytest.raises(Refused, match="incompatible-schema"):
        registry.register(f"t.{name}", broken)
    assert registry.schema(number) == first
    with pytest.raises(UnknownSchema):
        registry.schema(2_000_000_000)
    with pytest.raises(Transient):
        Registry("http://127.0.0.1:9").schema(1)


def test_our_own_types_are_registered_under_their_full_names(stack: Stack) -> None:
    registry = Registry(stack.registry_url)
    event = training.RunFailed(run="r", stream="s", model="m", reason="x", detail="y")
    assert wire.decode(wire.encode(event, registry), Registry(stack.registry_url)) == event
    assert training.RunFailed.full_name() in registry.subjects()


def letter(topic: str, offset: int, reason: str, **headers: bytes) -> DeadLetter:
    record = Record(topic, 0, offset, b"key", b"\xffvalue", [*headers.items(), ("other", b"kept")])
    return dead_letter(record, Rejected(reason, "said"), "ingest", "0.1.0", 1)


def test_a_dead_raw_record_is_sent_once_more_as_it_was(stack: Stack, stream_name: str) -> None:
    settings, topic, reason = stack.settings(), f"raw.{stream_name}.a", f"reason-{stream_name}"
    stack.stream(stream_name, "a")
    stack.topics(control_topics())
    append(stack, topic, 1)
    first, foreign = letter(topic, 0, reason), letter(f"log.{stream_name}", 8, reason)
    with Publisher(settings, "ingest") as publisher:
        for one in (first, foreign):
            publisher.publish(one, one.id)
    listed = json.loads(tidemill(stack, settings, "dlq", "list", "--reason", reason, "--output", "json").stdout)
    assert (listed["reasons"], {one["id"] for one in listed["letters"]}) == ({reason: 2}, {first.id, foreign.id})
    shown = json.loads(tidemill(stack, settings, "dlq", "show", first.id).stdout)
    assert (shown["value"], shown["reason"], shown["offset"]) == ("0xff76616c7565", reason, 0)

    done = tidemill(stack, settings, "dlq", "redrive", "--reason", reason)
    assert done.stdout.strip() == "1 sent once more", done.stderr
    message = one_record(stack, topic, 1)
    assert (message.key(), message.value()) == (b"key", b"\xffvalue")
    assert dict(message.headers()) == {"other": b"kept", "tidemill-attempt": b"1", "tidemill-caused-by": first.id.encode()}

    again = tidemill(stack, settings, "dlq", "redrive", "--reason", reason)
    assert (again.returncode, "nothing-chosen" in again.stderr) == (1, True)
    refused = tidemill(stack, settings, "dlq", "redrive", foreign.id)
    assert (refused.returncode, "not-raw" in refused.stderr) == (1, True)
    assert tidemill(stack, settings, "dlq", "redrive").returncode == 2


def append(stack: Stack, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": stack.bootstrap})
    for _ in range(count):
        producer.produce(topic, b"value", partition=0)
    assert producer.flush(30) == 0


def one_record(stack: Stack, topic: str, offset: int) -> Any:
    reader = Consumer({"bootstrap.servers": stack.bootstrap, "group.id": topic, "enable.auto.commit": False})
    reader.assign([TopicPartition(topic, 0, offset)])
    message = reader.poll(30)
    reader.close()
    assert message is not None
    return message


def test_what_was_sent_once_more_is_not_sent_again_with_all_of_its_reason(stack: Stack, stream_name: str) -> None:
    settings, topic = stack.settings(), f"raw.{stream_name}.a"
    stack.stream(stream_name, "a")
    append(stack, topic, 4)
    letters = [letter(topic, offset, "undecodable") for offset in range(4)]
    assert unsent(letters, settings) == (letters, 0)
    send(letters[1:3], settings)
    assert unsent(letters, settings) == ([letters[0], letters[3]], 0)
    admin, place = AdminClient({"bootstrap.servers": stack.bootstrap}), TopicPartition(topic, 0, 5)
    admin.delete_records([place])[place].result(30)
    assert unsent(letters, settings) == ([letters[0], letters[1], letters[3]], 3), "the broker has deleted what says so"


def test_a_letter_that_died_again_is_not_sent_twice() -> None:
    first = letter("raw.s.a", 7, "check-failed")
    again = letter("raw.s.a", 9, "check-failed", **{"tidemill-caused-by": first.id.encode(), "tidemill-attempt": b"1"})
    assert redrivable([first, again], "check-failed") == [again]
    assert again.attempt == 1


def test_nothing_is_sent_where_one_record_is_not_raw(stack: Stack) -> None:
    with pytest.raises(Refused, match="only raw records"):
        send([letter("raw.nowhere.a", 1, "x"), letter("log.flights", 1, "x")], stack.settings())
    assert "raw.nowhere.a" not in Producer({"bootstrap.servers": stack.bootstrap}).list_topics(timeout=10).topics
