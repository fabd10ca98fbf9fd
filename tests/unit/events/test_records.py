"""Framing, fixed-width records, the log's header, envelopes, dead letters."""

from typing import Any

import numpy as np
import pytest

from tidemill.errors import Rejected
from tidemill.events import envelope, features, governance, log, log_header, training, wire
from tidemill.events.base import Event
from tidemill.events.blobs import Blobs
from tidemill.events.columnar import Decoder
from tidemill.events.dead import Record, dead_letter
from tidemill.events.fixed import dtype_of
from tidemill.events.schema_registry import Registry, UnknownSchema


class Shelf(Registry):
    """A registry in memory."""

    def __init__(self, *kinds: type[Event]) -> None:
        super().__init__("http://nowhere")
        self.kept = {number: kind.SCHEMA for number, kind in enumerate(kinds, 1)}

    def schema(self, schema_id: int) -> dict[str, Any]:
        if schema_id not in self.kept:
            raise UnknownSchema(schema_id)
        return self.kept[schema_id]

    def id_of(self, event_type: type[Event]) -> int:
        return next(number for number, schema in self.kept.items() if schema is event_type.SCHEMA)


FAILED = training.RunFailed(run="r1", stream="flights", model="late-arrival", reason="x", detail="y")


def test_an_event_survives_the_wire() -> None:
    shelf = Shelf(training.RunFailed)
    value = wire.encode(FAILED, shelf)
    assert value[:5] == b"\0\0\0\0\1"
    assert wire.decode(value, shelf) == FAILED
    assert (FAILED.kafka_key(), FAILED.ce_type()) == (b"late-arrival", "training.run-failed.v1")


def test_an_event_of_a_newer_schema_is_read_as_ours() -> None:
    shelf = Shelf(training.RunFailed)
    fields = [*training.RunFailed.SCHEMA["fields"], {"name": "more", "type": ["null", "string"], "default": None}]
    shelf.kept[2] = training.RunFailed.SCHEMA | {"fields": fields}
    value = wire.frame(2, wire.datum(FAILED) + b"\0")
    assert wire.decode(value, shelf) == FAILED


def test_a_record_of_nobody_we_know_is_a_dict() -> None:
    shelf = Shelf()
    shelf.kept[9] = {"type": "record", "name": "Theirs", "namespace": "elsewhere", "fields": [{"name": "x", "type": "string"}]}
    assert wire.decode(b"\0\0\0\0\x09\x02a", shelf) == {"x": "a"}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not-framed"),
        (b"\0\0\0", "not-framed"),
        (b"\1\0\0\0\1abc", "not-framed"),
        (b"\0\0\0\0\x63abc", "unknown-schema"),
        (wire.frame(1, wire.datum(FAILED)[:-1]), "undecodable"),
        (wire.frame(1, wire.datum(FAILED) + b"x"), "undecodable"),
        (wire.frame(1, b"\xff" * 30), "undecodable"),
        (wire.frame(1, b"\x02\xff" + wire.datum(FAILED)[3:]), "undecodable"),
    ],
)
def test_a_bad_value_is_rejected_with_its_reason(value: bytes, reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        wire.decode(value, Shelf(training.RunFailed))
    assert caught.value.reason == reason


NESTED = {"type": "record", "name": "N", "fields": [{"name": "n", "type": ["null", "N"]}]}
NOTHINGS = {"type": "record", "name": "M", "fields": [{"name": "m", "type": {"type": "array", "items": "null"}}]}
NO_SCHEMA = {"type": "record", "name": "O", "fields": [{"name": "o", "type": {"type": "enum", "name": "E", "symbols": ["a b"]}}]}


@pytest.mark.parametrize(
    ("schema", "datum"),
    [(NESTED, b"\x02" * 200_000 + b"\0"), (NOTHINGS, b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f\0"), (NO_SCHEMA, b"\0")],
)
def test_a_schema_made_to_exhaust_its_reader_is_refused(schema: dict[str, Any], datum: bytes) -> None:
    shelf = Shelf()
    shelf.kept[9] = schema
    with pytest.raises(Rejected, match="its schema cannot be used"):
        wire.decode(wire.frame(9, datum), shelf)


def test_schema_ids_of_a_batch() -> None:
    values = [b"\0\0\0\1\2x", b"\0\0\0", b"", None, b"\1\0\0\0\1", b"\0\0\0\0\7"]
    assert wire.schema_ids(Blobs.of(values)).tolist() == [258, -1, -1, -1, -1, 7]
    assert wire.schema_ids(Blobs.of([])).tolist() == []


@pytest.mark.parametrize("kind", [features.Outcome, features.Unlabelled, features.Failed])
def test_a_fixed_width_record_is_one_row_of_its_dtype(kind: type[Event]) -> None:
    dtype = dtype_of(kind.SCHEMA)
    row = np.zeros(3, dtype)
    row["frame"] = wire.frame(4, b"")
    row["seq"], row["position"], row["id_hash"] = [1, 2, 3], [10, 20, 30], [7, 8, 2**63 + 9]
    if "reason" in dtype.names:  # type: ignore[operator]
        row["reason"] = 2
    frame = Decoder(kind.SCHEMA).decode(Blobs.rows(row)).frame
    assert frame["seq"].to_list() == [1.0, 2.0, 3.0]
    assert [int.from_bytes(value, "little") for value in frame["id_hash"]] == [7, 8, 2**63 + 9]
    assert frame.columns[:3] == list(log_header.PREFIX.names or ())[1:]
    if "reason" in frame.columns:
        assert set(frame["reason"]) == {kind.SCHEMA["fields"][-1]["type"]["symbols"][1]}


def test_a_field_of_varying_width_has_no_dtype() -> None:
    with pytest.raises(ValueError, match="not of fixed width"):
        dtype_of(training.RunFailed.SCHEMA)


def test_the_logs_header_and_the_prefix_are_packed() -> None:
    assert (log_header.LOG_HEADER.itemsize, log_header.PREFIX.itemsize) == (44, 29)


def test_a_restamped_control_record_differs_in_its_place_only() -> None:
    fact = log.Progressed(seq=1, position=2, stream_time=3, stream="flights", ended=False)
    moved = log_header.restamp(wire.frame(1, wire.datum(fact)), 10, 20, 2**52)
    expected = fact.model_copy(update={"seq": 10.0, "position": 20.0, "stream_time": float(2**52)})
    assert wire.decode(moved, Shelf(log.Progressed)) == expected


@pytest.mark.parametrize("kind", [log.Barrier, log.SpecAdopted, log.ModelSwitched, log.Progressed])
def test_every_control_record_of_the_log_begins_with_its_place(kind: type[Event]) -> None:
    assert [(field["name"], field["type"]) for field in kind.SCHEMA["fields"][:3]] == [
        ("seq", "double"),
        ("position", "double"),
        ("stream_time", "double"),
    ]


def test_an_envelope_survives_its_headers() -> None:
    told = envelope.headers("e1", "training", "training.run-failed.v1", 1_357_000_000_123_456, "00-ab-cd-01", "c1", 5, 6)
    assert dict(told)["ce_time"] == b"2013-01-01T00:26:40.123456Z"
    assert envelope.parse(told) == envelope.Envelope(
        "e1", "training", "training.run-failed.v1", 1_357_000_000_123_456, "00-ab-cd-01", "c1", 5, 6
    )


@pytest.mark.parametrize(
    "headers",
    [
        None,
        [],
        [("ce_id", None)],
        [("ce_time", b"yesterday"), ("tidemill-seq", b"-")],
        [("x", b"\xff")],
        [("tidemill-seq", b"9" * 5_000)],
        [("tidemill-position", b"9" * 19)],
        [("tidemill-attempt", b"2147483648")],
    ],
)
def test_odd_headers_are_left_out(headers: Any) -> None:
    assert envelope.parse(headers) == envelope.Envelope()


def test_a_dead_letter_keeps_the_record_and_its_attempt() -> None:
    record = Record("raw.flights.weather", 0, 7, b"k", b"\xff", [(envelope.ATTEMPT, b"2"), ("other", None)])
    letter = dead_letter(record, Rejected("not-framed", "no prefix"), "ingest", "1.0", 5)
    assert (letter.key, letter.value, letter.attempt, letter.reason) == (b"k", b"\xff", 2, "not-framed")
    assert letter.id == dead_letter(record, Rejected("other", ""), "ingest", "1.1", 6).id


def test_an_event_says_nothing_that_its_schema_does_not_name() -> None:
    with pytest.raises(ValueError, match="extra"):
        governance.AuditAppended(number=1, at=1, kind="k", subject="s", event="e", detail="", previous="", hash="", more=1)  # type: ignore[call-arg]
