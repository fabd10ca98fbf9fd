"""Bad input through both doors: each piece gets its answer or its dead letter, its neighbours are unharmed, the counts reconcile."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from services.ingest import errors
from tests import bad_header
from tests.broker import ends
from tests.conftest import Stack
from tests.integration.ingest_stream import Ingest, Stream
from tests.unit.ingest.world import SECOND, schema
from tests.waiting import until
from tidemill.bus.limit import EXIT_STOPPED
from tidemill.events import log_header, wire

START = 1_000_000_000 * SECOND
FOREIGN = {"type": "record", "name": "Foreign", "namespace": "world", "fields": [{"name": "x", "type": "long"}]}


@pytest.fixture(scope="module")
def stream(stack: Stack) -> Iterator[Stream]:
    made = Stream(
        stack,
        f"t-{uuid.uuid4().hex[:10]}",
        {"checks": [{"column": "amount", "between": [0, 100]}, {"column": "color", "in": ["red"], "else": "warn"}]},
    )
    made.apply()
    yield made
    made.end()


@pytest.fixture(scope="module")
def ingest(stream: Stream) -> Ingest:
    return stream.start().ready()


@pytest.fixture
def own(stack: Stack, stream_name: str) -> Iterator[Stream]:
    """A stream of one test alone, whose ingest may end or be killed."""
    made = Stream(stack, stream_name)
    made.apply()
    yield made
    made.end()


def good(id: str, **over: Any) -> dict[str, Any]:
    return {"id": id, "at": "2001-09-09T01:46:40Z", "amount": 1.0, "color": "red", **over}


# -- the HTTP door ------------------------------------------------------------------------------------------------------


def test_a_good_event_is_answered_with_its_position_and_a_retry_with_the_same(ingest: Ingest) -> None:
    code, answer = ingest.post("a", good("http-1"))
    assert (code, answer["status"]) == (202, "accepted")
    again, repeated = ingest.post("a", good("http-1"))
    assert (again, repeated["status"], repeated["position"]) == (202, "duplicate", answer["position"])


def test_the_position_is_where_the_log_has_it(ingest: Ingest, stream: Stream) -> None:
    _, answer = ingest.post("b", good("http-place"))
    batch = stream.log()
    assert batch is not None
    assert batch.keys[batch.offsets.tolist().index(answer["position"]["offset"])] == b"http-place"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"id": "x", ', "column"),
        (b"\xff\xfe", "UTF-8"),
        (b'"text"', "object"),
        (b"[]", "no event"),
        (b'{"id": "x", "at": 1, "amount": NaN}', "NaN"),
        (b'{"id": "x", "at": 1, "amount": -Infinity}', "Infinity"),
        (b"[" * 100_000, ""),
    ],
)
def test_what_is_no_json_is_answered_400(ingest: Ingest, body: bytes, says: str) -> None:
    code, answer = ingest.post("a", body)
    assert (code, answer["reason"]) == (400, "malformed-json")
    assert says in answer["message"]


@pytest.mark.parametrize(
    ("change", "field", "fix"),
    [
        ({"amount": "12"}, "amount", "number"),
        ({"amount": True}, "amount", "number"),
        ({"amount": None}, "amount", "number"),
        ({"amount": 10**400}, "amount", "number"),
        ({"\ud800": 1}, "\ud800", "color"),
        ({"at": 1.5}, "at", "2013"),
        ({"at": "yesterday"}, "at", "2013"),
        ({"color": 7}, "color", "text"),
        ({"colour": "red"}, "colour", "'color'"),
        ({"id": 7}, "id", "text"),
    ],
)
def test_a_wrong_type_is_answered_with_field_and_fix(ingest: Ingest, change: dict[str, Any], field: str, fix: str) -> None:
    code, answer = ingest.post("a", good("wrong") | change)
    assert code == 422
    assert [error["field"] for error in answer["errors"]] == [field]
    assert fix in answer["errors"][0]["fix"]


def test_a_missing_column_is_named(ingest: Ingest) -> None:
    code, answer = ingest.post("a", {"id": "x", "amount": 1.0})
    assert code == 422
    assert answer["errors"][0]["field"] == "at"


@pytest.mark.parametrize("id", [None, ""])
def test_an_event_without_id_is_refused(ingest: Ingest, id: str | None) -> None:
    code, answer = ingest.post("a", good("x") | {"id": id})
    assert (code, answer["reason"]) == (422, errors.MISSING_ID)


def test_an_unknown_stream_or_source_is_answered_with_the_known_ones(ingest: Ingest, stream: Stream) -> None:
    code, answer = ingest.post("c", good("x"))
    assert (code, answer["reason"]) == (404, "unknown-source")
    assert "a, b" in answer["message"]
    code, answer = ingest.post("a", good("x"), stream=stream.name[:-1])
    assert (code, answer["reason"]) == (404, "unknown-stream")
    assert stream.name in answer["message"]


def test_a_body_of_20_mb_is_answered_413(ingest: Ingest) -> None:
    code, answer = ingest.post("a", b'{"id": "' + b"x" * 20_000_000 + b'"}')
    assert (code, answer["reason"]) == (413, "too-large")


def test_an_event_that_no_record_holds_is_answered_413(ingest: Ingest) -> None:
    code, answer = ingest.post("a", good("big", color="r" * 600_000))
    assert (code, answer["reason"]) == (413, errors.TOO_LARGE)


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        ({"at": "1970-01-01T00:00:00Z"}, 422, errors.TIME_OUT_OF_RANGE),
        ({"at": "2100-01-01T00:00:00Z"}, 422, errors.TIME_OUT_OF_RANGE),
        ({"amount": 101}, 422, errors.CHECK_FAILED),
    ],
)
def test_what_the_log_would_not_take_is_told_to_the_caller(ingest: Ingest, change: dict[str, Any], code: int, reason: str) -> None:
    answered, answer = ingest.post("b", good("judged") | change)
    assert (answered, answer["reason"]) == (code, reason)


def test_the_same_id_with_other_content_is_a_conflict(ingest: Ingest) -> None:
    assert ingest.post("a", good("twice"))[0] == 202
    code, answer = ingest.post("a", good("twice", amount=2.0))
    assert (code, answer["reason"]) == (409, errors.ID_CONFLICT)


def test_an_array_with_one_bad_element_takes_the_others(ingest: Ingest, stream: Stream) -> None:
    body = [good("many-1"), good("many-2", amount="x"), good("many-3"), good("many-4", at="2100-01-01T00:00:00Z"), good("many-1")]
    code, answer = ingest.post("a", body)
    assert code == 207
    assert [one["code"] for one in answer["results"]] == [202, 422, 202, 422, 202]
    assert [one["status"] for one in answer["results"]] == ["accepted", "rejected", "accepted", "rejected", "duplicate"]
    assert {"many-1", "many-3"} <= dict(stream.events()).keys()
    assert "many-2" not in dict(stream.events())


def test_a_thousand_events_in_one_body_are_answered_one_by_one(ingest: Ingest) -> None:
    code, answer = ingest.post("b", [good(f"bulk-{n}") for n in range(1_000)])
    assert code == 202
    assert len({one["position"]["offset"] for one in answer["results"]}) == 1_000


# -- the raw topics -----------------------------------------------------------------------------------------------------


def test_bad_raw_records_become_dead_letters_and_their_neighbours_events(ingest: Ingest, stream: Stream, stack: Stack) -> None:
    foreign = stack.registry.register("world.Foreign", FOREIGN)
    namesake = stack.registry.register(f"raw.{stream.name}.a-value", schema("a") | {"fields": [{"name": "id", "type": "long"}]})
    begin = len(stream.events())
    whole = stream.event("a", "raw-cut", START)
    bad: dict[str, tuple[bytes | None, str]] = {
        "no avro": (b"hello", errors.UNDECODABLE),
        "nothing": (None, errors.UNDECODABLE),
        "empty": (b"", errors.UNDECODABLE),
        "cut": (whole[:-3], errors.UNDECODABLE),
        "long": (whole + b"\0", errors.UNDECODABLE),
        "unknown schema": (wire.frame(2_000_000_000, whole[5:]), errors.UNKNOWN_SCHEMA),
        "a namesake": (wire.frame(namesake, b"\x02"), errors.UNKNOWN_SCHEMA),
        "another source's": (wire.frame(foreign, b"\x02"), errors.UNKNOWN_SCHEMA),
        "1970": (stream.event("a", "raw-1970", 0), errors.TIME_OUT_OF_RANGE),
        "2100": (stream.event("a", "raw-2100", 4_102_444_800 * SECOND), errors.TIME_OUT_OF_RANGE),
        "end of time": (stream.event("a", "raw-end", 2**63 - 1), errors.TIME_OUT_OF_RANGE),
        "no id": (stream.event("a", None, START), errors.MISSING_ID),
        "NaN": (stream.event("a", "raw-nan", START, float("nan")), errors.CHECK_FAILED),
        "infinite": (stream.event("a", "raw-inf", START, float("inf")), errors.CHECK_FAILED),
        "NaN where none may be": (stream.event("a", "raw-nan", START, share=float("nan")), errors.CHECK_FAILED),
        "infinite where none may be": (stream.event("a", "raw-inf", START, share=float("-inf")), errors.CHECK_FAILED),
        "out of bounds": (stream.event("a", "raw-101", START, 101.0), errors.CHECK_FAILED),
        "too large": (whole + b"x" * 600_000, errors.TOO_LARGE),
        "same id": (stream.event("a", "raw-0", START + 5), errors.ID_CONFLICT),
        "impossible promise": (stream.promise("a", 2**63 - 1), errors.TIME_OUT_OF_RANGE),
        "another's promise": (stream.promise("b", START), errors.CHECK_FAILED),
    }
    values, expected, n = [stream.event("a", "raw-0", START)], {}, 1
    for value, reason in bad.values():
        neighbours = [stream.event("a", f"raw-{n + i}", START + n + i) for i in range(12)]
        expected[len(values) + 6] = reason
        values += [*neighbours[:6], value, *neighbours[6:]]
        n += 12
    first = _next(stream, "a")
    stream.send("a", values, {"tidemill-attempt": b"9" * 19})
    until(lambda: len(stream.events()) == begin + n, "all neighbours")
    letters = stream.dead()
    assert {at: letters["a", first + at].reason for at in expected} == expected
    assert [key for key, _ in stream.events()[begin:]] == [f"raw-{i}" for i in range(n)]
    one = letters["a", first + list(expected)[list(bad).index("nothing")]]
    assert (one.topic, one.partition, one.value, one.service, one.attempt) == (f"raw.{stream.name}.a", 0, None, "ingest", 0)


def test_a_schema_id_in_a_header_counts_as_one_before_the_datum(ingest: Ingest, stream: Stream) -> None:
    whole, place = stream.event("a", "raw-header", START), _next(stream, "a")
    header = wire.SCHEMA_ID_HEADER
    stream.send("a", [whole[5:]], {header: whole[:5]})
    stream.send("a", [whole])
    stream.send("a", [whole], {header: b"odd"})
    stream.send("a", [whole], {header: b"\1" + bytes(16)})
    stream.send("a", [None], {header: whole[:5]})
    until(lambda: ("a", place + 4) in stream.dead(), "the dead letters")
    assert dict(stream.events())["raw-header"] == whole
    reasons = {at: stream.dead()["a", place + at].reason for at in (2, 3, 4)}
    assert reasons == {2: errors.UNDECODABLE, 3: errors.UNKNOWN_SCHEMA, 4: errors.UNDECODABLE}
    assert [one.name for one in stream.dead()["a", place + 2].headers] == [header]


def test_raw_records_events_dead_letters_and_duplicates_reconcile(ingest: Ingest, stream: Stream) -> None:
    """After everything above: what was sent is in the log, dead, or there twice."""
    found = ingest.metrics()
    for source in ("a", "b"):
        raw = _next(stream, source)
        batch = stream.log()
        assert batch is not None and batch.log is not None
        index = ["a", "b"].index(source) ^ 1  # the spec's order is b, a
        in_log = int(((batch.log["kind"] == log_header.EVENT) & (batch.log["source"] == index)).sum())
        dead = Counter(letter.reason for (of, _), letter in stream.dead().items() if of == source)
        duplicates = int(_metric(found, "tidemill_duplicates_total", f"raw.{stream.name}.{source}"))
        assert raw == in_log + sum(dead.values()) + duplicates
        assert _metric(found, "tidemill_dead_letters_total", f"raw.{stream.name}.{source}") == sum(dead.values())


def test_a_check_that_warns_is_counted_and_lets_the_event_pass(ingest: Ingest, stream: Stream) -> None:
    before = _metric(ingest.metrics(), "tidemill_check_warnings_total", f"raw.{stream.name}.b")
    assert ingest.post("b", good("pink", color="pink"))[0] == 202
    assert _metric(ingest.metrics(), "tidemill_check_warnings_total", f"raw.{stream.name}.b") == before + 1


def test_dead_letters_are_the_same_after_a_restart(ingest: Ingest, stream: Stream) -> None:
    before = stream.dead()
    stream.send("b", [b"late"])
    until(lambda: len(stream.dead()) == len(before) + 1, "the dead letter")
    known = {place: letter.id for place, letter in stream.dead().items()}
    ingest.kill()
    again = stream.start().ready()
    assert again.post("b", good("after-restart"))[0] == 202
    assert {place: letter.id for place, letter in stream.dead().items()} == known


def test_a_tail_of_dead_records_is_judged_once_however_often_ingest_starts(own: Stream) -> None:
    life = own.start().ready()
    own.send("a", [own.event("a", f"good-{n}", START + n) for n in range(1_000)])
    until(lambda: len(own.events()) == 1_000, "the good events")
    own.send("a", [b"no avro"] * 300)
    until(lambda: len(own.letters()) == 300 and own.judged("a") == 1_300, "the dead letters, and that they are judged")
    life.kill()
    for snapshot in (own.settings.data_dir / "snapshots" / "ingest").rglob("*.npz"):
        snapshot.unlink()  # as where the code is another
    life = own.start().ready()
    own.send("a", [own.event("a", "behind", START + 1_000)])
    until(lambda: "behind" in dict(own.events()), "what comes behind")
    assert life.stop() == 0
    assert own.judged("a") == 1_301
    assert len(own.letters()) == 300, "none is said again, up to the end of the life"


def _next(stream: Stream, source: str) -> int:
    return ends(stream.settings, f"raw.{stream.name}.{source}")[0][1]


def _metric(text: str, name: str, topic: str) -> float:
    lines = [line for line in text.splitlines() if line.startswith(name) and f'topic="{topic}"' in line]
    return sum(float(re.split(r"\s", line)[-1]) for line in lines)


def test_a_header_whose_name_is_no_utf8_kills_its_record_alone(own: Stream) -> None:
    """In the next life too, which may have to judge the last of a lane again."""
    life = own.start().ready()
    for at, value in enumerate(("before", "bad", "between", "bad")):
        _append(own, value, START + at)
    until(lambda: len(own.dead()) == 2 and len(own.events()) == 2, "what came of the four records")
    life.kill()
    own.start().ready()
    own.send("a", [own.event("a", "after", START + 4)])
    until(lambda: len(own.events()) == 3, "what comes after the restart")
    assert [key for key, _ in own.events()] == ["before", "between", "after"]
    assert {place: (one.reason, one.value, one.headers) for place, one in own.dead().items()} == {
        ("a", at): (errors.UNDECODABLE, own.event("a", "bad", START + at), []) for at in (1, 3)
    }


def _append(stream: Stream, id: str, at: int) -> None:
    value = stream.event("a", id, at)
    if id == "bad":
        bad_header.write(stream.settings.kafka, f"raw.{stream.name}.a", value)
    else:
        stream.send("a", [value])


def test_a_stream_most_of_which_dies_stops_ingest_until_somebody_says_to_go_on(own: Stream) -> None:
    life = own.start().ready()
    own.send("a", [*([b"no avro"] * 300), own.event("a", "behind", START)])
    assert life.process.wait(60) == EXIT_STOPPED
    assert "TooManyDead" in life.tail()
    own.start(TIDEMILL_DEAD_SHARE="1").ready()
    until(lambda: "behind" in dict(own.events()), "what comes behind")
    assert len(own.dead()) == 300
