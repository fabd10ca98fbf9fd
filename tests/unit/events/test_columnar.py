"""One suite over good and bad bytes for both decoders: blocks by polars, one by one by fastavro."""

import io
import math
from typing import Any

import fastavro
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.calls import calls_of
from tidemill.events.blobs import Blobs
from tidemill.events.columnar import BadSchema, Decoded, Decoder
from tidemill.events.plain import plain

FRAME = b"\0\0\0\0\1"
FLIGHT = {
    "type": "record",
    "name": "Flight",
    "namespace": "test",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "millis", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "tail", "type": ["null", "string"], "default": None},
        {"name": "delay", "type": ["double", "null"]},
        {"name": "seen", "type": ["null", {"type": "long", "logicalType": "timestamp-nanos"}]},
        {"name": "number", "type": "int"},
        {"name": "cancelled", "type": "boolean"},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B", "C"]}},
        {"name": "other", "type": ["null", "Kind"]},
        {"name": "ratio", "type": "float"},
        {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 8}},
        {"name": "blob", "type": ["null", "bytes"]},
        {"name": "stops", "type": {"type": "array", "items": "string"}},
    ],
}
NESTED = {
    "type": "record",
    "name": "Nested",
    "fields": [
        {"name": "name", "type": "string"},
        {"name": "scores", "type": {"type": "map", "values": ["null", "double"]}},
        {"name": "place", "type": ["null", {"type": "record", "name": "Place", "fields": [{"name": "x", "type": "int"}]}]},
        {"name": "trail", "type": {"type": "array", "items": "Place"}},
        {"name": "grid", "type": {"type": "array", "items": {"type": "array", "items": "long"}}},
        {"name": "any", "type": ["null", "int", "string"]},
    ],
}


def flight(**over: Any) -> dict[str, Any]:
    row = {
        "id": "f1",
        "at": 1_357_000_000_000_000,
        "millis": 1_357_000_000_000,
        "tail": "N1",
        "delay": 1.5,
        "seen": None,
        "number": 7,
    }
    row |= {"cancelled": False, "kind": "B", "other": None, "ratio": 0.5, "hash": b"12345678", "blob": None, "stops": []}
    return row | over


def encode(schema: dict[str, Any], row: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(plain(schema)), row)
    return FRAME + out.getvalue()


def both(schema: dict[str, Any], values: list[bytes]) -> Decoded:
    """What both decoders say, having seen that it is the same."""
    block, single = Decoder(schema).decode(Blobs.of(values)), Decoder(schema, one_by_one=True).decode(Blobs.of(values))
    assert block.bad == single.bad
    assert block.good.tolist() == single.good.tolist()
    assert block.frame.schema == single.frame.schema
    assert block.frame.equals(single.frame)
    the_columns_are_the_frames(block, single)
    return block


def the_columns_are_the_frames(block: Decoded, single: Decoded) -> None:
    """What is made of the walk's cells is what is made of the frame that fastavro gives."""
    assert not single.fields
    for name, kept in block.fields.items():
        assert block.series(name).equals(single.series(name), check_names=True, null_equal=True, check_dtypes=True)
        assert block.hashes(name).tolist() == single.hashes(name).tolist()
        if kept.kind not in ("string", "enum"):
            assert np.array_equal(block.numbers(name), single.numbers(name), equal_nan=True)
        if kept.ticks and not single.series(name).null_count():
            assert block.instants(name).tolist() == single.instants(name).tolist()


def plainly(schema: dict[str, Any], payload: bytes) -> dict[str, Any] | None:
    """fastavro alone: the row, or None where it fails or does not consume exactly the bytes."""
    stream = io.BytesIO(payload)
    try:
        row = fastavro.schemaless_reader(stream, fastavro.parse_schema(plain(schema)), None)
    except Exception:
        return None
    return row if stream.tell() == len(payload) else None  # type: ignore[return-value]


texts = st.text(max_size=20)
longs = st.integers(-(2**63), 2**63 - 1)
doubles = st.floats(allow_nan=False)
flights = st.fixed_dictionaries(
    {
        "id": texts,
        "at": longs,
        "millis": st.integers(-(2**52), 2**52),
        "tail": st.none() | texts,
        "delay": st.none() | doubles,
        "seen": st.none() | longs,
        "number": st.integers(-(2**31), 2**31 - 1),
        "cancelled": st.booleans(),
        "kind": st.sampled_from("ABC"),
        "other": st.none() | st.sampled_from("ABC"),
        "ratio": st.floats(allow_nan=False, width=32),
        "hash": st.binary(min_size=8, max_size=8),
        "blob": st.none() | st.binary(max_size=5),
        "stops": st.lists(texts, max_size=3),
    }
)
places = st.fixed_dictionaries({"x": st.integers(-5, 5)})
nested = st.fixed_dictionaries(
    {
        "name": texts,
        "scores": st.dictionaries(texts, st.none() | doubles, max_size=3),
        "place": st.none() | places,
        "trail": st.lists(places, max_size=3),
        "grid": st.lists(st.lists(longs, max_size=3), max_size=3),
        "any": st.none() | st.integers(0, 9) | texts,
    }
)


@settings(deadline=None)
@given(st.lists(flights, max_size=40))
def test_good_rows_come_back_as_they_were(rows: list[dict[str, Any]]) -> None:
    got = both(FLIGHT, [encode(FLIGHT, row) for row in rows])
    assert got.bad == []
    assert got.frame.columns == [field["name"] for field in FLIGHT["fields"]]  # type: ignore[index]
    assert got.frame.to_dicts() == [
        row | {"millis": row["millis"] * 1000, "seen": row["seen"] and row["seen"] // 1000} for row in rows
    ]


@settings(deadline=None)
@given(st.lists(nested, max_size=20))
def test_nested_rows_come_back_with_maps_as_pairs(rows: list[dict[str, Any]]) -> None:
    got = both(NESTED, [encode(NESTED, row) for row in rows])
    pairs = [[{"key": key, "value": value} for key, value in row["scores"].items()] for row in rows]
    assert "any" not in got.frame.columns
    assert got.frame.to_dicts() == [
        {k: v for k, v in row.items() if k != "any"} | {"scores": scores} for row, scores in zip(rows, pairs, strict=True)
    ]


LENIENT = {
    "a boolean that is neither 0 nor 1",
    "an int of more than 32 bits",
    "a number of more than 64 bits",
    "a union branch that does not exist",
    "an enum symbol that does not exist",
    "a negative length",
}
"""What fastavro reads without complaint: of branches and symbols those that count from the end, as -1; of lengths a block's, unread."""


def test_a_block_of_a_negative_size_is_refused_though_fastavro_does_not_look_at_it() -> None:
    payload = b"\x00\x00\x00" + b"\x01\x01\x00\x00" + b"\x00\x00"  # `trail`: one item, in -1 bytes
    assert plainly(NESTED, payload) is not None
    assert both(NESTED, [FRAME + payload]).bad == [(0, "a negative length")]


@st.composite
def mutilated(draw: st.DrawFn, payload: bytes) -> bytes:
    at = draw(st.integers(0, len(payload) - 1))
    match draw(st.sampled_from(["cut", "flip", "insert", "append"])):
        case "cut":
            return payload[:at]
        case "flip":
            return payload[:at] + bytes([draw(st.integers(0, 255))]) + payload[at + 1 :]
        case "insert":
            odd = st.sampled_from([0xFF, 0x80, 0x7F, 0x01, 0x00]) | st.integers(0, 255)
            return payload[:at] + bytes(draw(st.lists(odd, max_size=12))) + payload[at:]
        case _:
            return payload + draw(st.binary(min_size=1, max_size=5))


@pytest.mark.parametrize(("schema", "rows"), [(FLIGHT, flights), (NESTED, nested)], ids=["flat", "nested"])
def test_mutilated_bytes_are_judged_as_fastavro_would_and_harm_no_neighbour(schema: dict[str, Any], rows: Any) -> None:
    decoders = Decoder(schema), Decoder(schema, one_by_one=True)

    @settings(deadline=None, max_examples=400)
    @given(st.lists(rows, min_size=3, max_size=20), st.data())
    def check(rows: list[dict[str, Any]], data: st.DataObject) -> None:
        values = [encode(schema, row) for row in rows]
        at = data.draw(st.integers(0, len(values) - 1))
        payload = data.draw(mutilated(values[at][5:]))
        mixed = [*values[:at], FRAME + payload, *values[at + 1 :]]
        block, single = (decoder.decode(Blobs.of(mixed)) for decoder in decoders)
        assert block.bad == single.bad
        assert block.frame.equals(single.frame)
        the_columns_are_the_frames(block, single)
        others = [i for i in range(len(values)) if i != at]
        assert set(others) <= set(block.good.tolist())
        keep = [block.good.tolist().index(i) for i in others]
        assert block.frame[keep].equals(decoders[0].decode(Blobs.of([values[i] for i in others])).frame)
        judge(schema, payload, dict(block.bad).get(at))

    check()


def judge(schema: dict[str, Any], payload: bytes, reason: str | None) -> None:
    row = plainly(schema, payload)
    if reason is None:
        assert row is not None
        frame = Decoder(schema).decode(Blobs.of([FRAME + payload])).frame
        flat = [name for name, dtype in frame.schema.items() if not dtype.is_nested() and name not in ("millis", "seen")]
        assert all(same(frame[name][0], row[name]) for name in flat)
    elif reason not in LENIENT:
        assert row is None, reason


def same(ours: Any, theirs: Any) -> bool:
    return ours == theirs or (isinstance(ours, float) and math.isnan(ours) and math.isnan(theirs))


@pytest.mark.parametrize(
    ("kind", "payload", "reason"),
    [
        ("string", b"\x08abc", "cut short"),
        ("string", b"\x06abcd", "bytes left over"),
        ("string", b"\x01", "a negative length"),
        ("string", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01abc", "cut short"),
        ("string", b"\x04\xc3\x28", "a text that is no UTF-8"),
        ("string", b"\x06\xed\xa0\x80", "a text that is no UTF-8"),
        ("string", b"\x02\xc3", "a text that is no UTF-8"),
        ("boolean", b"\x02", "a boolean that is neither 0 nor 1"),
        ("boolean", b"", "cut short"),
        ("double", b"\0" * 7, "cut short"),
        ("double", b"\0" * 9, "bytes left over"),
        ("int", b"\x80\x80\x80\x80\x20", "an int of more than 32 bits"),
        ("int", b"\xff", "cut short"),
        ("long", b"\xff" * 9 + b"\x02", "a number of more than 64 bits"),
        ("long", b"\xff" * 10 + b"\x01", "a number of more than 64 bits"),
        (["null", "double"], b"\x04" + b"\0" * 8, "a union branch that does not exist"),
        (["double", "null"], b"\x06", "a union branch that does not exist"),
        (["null", "double"], b"\x01" + b"\0" * 8, "a union branch that does not exist"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x02", "an enum symbol that does not exist"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x01", "an enum symbol that does not exist"),
        ({"type": "array", "items": "string"}, b"\x02\x02a", "cut short"),
        ({"type": "array", "items": "string"}, b"\xfe\xff\xff\xff\x0f\x02a", "cut short"),
        ({"type": "map", "values": "int"}, b"\x02\x02\xff\x02\0", "a text that is no UTF-8"),
        ({"type": "fixed", "name": "F", "size": 4}, b"abc", "cut short"),
    ],
)
def test_bad_bytes_have_their_reason(kind: Any, payload: bytes, reason: str) -> None:
    schema = {"type": "record", "name": "One", "fields": [{"name": "x", "type": kind}]}
    assert both(schema, [FRAME + payload]).bad == [(0, reason)]
    if reason not in LENIENT:
        assert plainly(schema, payload) is None


@pytest.mark.parametrize(
    ("kind", "payload", "value"),
    [
        ("long", b"\xff" * 9 + b"\x01", -(2**63)),
        ("long", b"\x80\x00", 0),
        ("int", b"\xff\xff\xff\xff\x0f", -(2**31)),
        ({"type": "array", "items": "string"}, b"\x03\x08\x02a\x02b\x02\x02c\x00", ["a", "b", "c"]),
        ({"type": "array", "items": "long"}, b"\x02\x02\x02\x04\x00", [1, 2]),
    ],
    ids=["smallest long", "long in more bytes than needed", "smallest int", "blocks with sizes", "two blocks"],
)
def test_unusual_good_bytes_are_read(kind: Any, payload: bytes, value: Any) -> None:
    schema = {"type": "record", "name": "One", "fields": [{"name": "x", "type": kind}]}
    got = both(schema, [FRAME + payload] * 3)
    assert (got.bad, got.frame["x"].to_list()) == ([], [value] * 3)


def test_a_cut_datum_in_the_middle_harms_no_neighbour() -> None:
    values = [encode(FLIGHT, flight(id=f"f{i}", number=i)) for i in range(100)]
    values[50] = values[50][:-3]
    got = both(FLIGHT, values)
    assert got.bad == [(50, "cut short")]
    assert got.frame["number"].to_list() == [i for i in range(100) if i != 50]
    assert got.good.tolist() == got.frame["number"].to_list()


def test_two_halves_that_fit_together_are_two_bad_datums() -> None:
    whole = encode(FLIGHT, flight())[5:]
    got = both(FLIGHT, [FRAME + whole[:20], FRAME + whole[20:]])
    assert [index for index, _ in got.bad] == [0, 1]


def test_a_too_large_datum_is_not_decoded() -> None:
    values = [encode(FLIGHT, flight(id="x" * size)) for size in (10, 3000, 10)]
    got = Decoder(FLIGHT, max_bytes=1000).decode(Blobs.of(values))
    assert (got.bad, len(got.frame)) == ([(1, "larger than 1000 bytes")], 2)


def test_an_empty_batch_has_the_columns_all_the_same() -> None:
    assert both(FLIGHT, []).frame.schema == both(FLIGHT, [encode(FLIGHT, flight())]).frame.schema


@pytest.mark.parametrize(
    "kind",
    [
        ["null", "One"],
        {"type": "array", "items": "One"},
        {"type": "array", "items": {"type": "record", "name": "Two", "fields": [{"name": "y", "type": ["null", "One"]}]}},
    ],
)
def test_recursive_schemas_are_refused(kind: Any) -> None:
    with pytest.raises(BadSchema, match="recursive"):
        Decoder({"type": "record", "name": "One", "fields": [{"name": "x", "type": kind}]})


@pytest.mark.parametrize(
    "items", ["null", {"type": "fixed", "name": "F", "size": 0}, {"type": "record", "name": "E", "fields": []}]
)
def test_arrays_of_items_without_bytes_are_refused(items: Any) -> None:
    with pytest.raises(BadSchema, match="no bytes"):
        Decoder({"type": "record", "name": "One", "fields": [{"name": "x", "type": {"type": "array", "items": items}}]})


MILLIS = {"logicalType": "timestamp-millis"}
INNER = {"type": "record", "name": "Two", "fields": [{"name": "y", "type": "int"}] * 2}


@pytest.mark.parametrize(
    ("kind", "message", "field"),
    [
        (INNER, "Two has two fields of this name", "x.y"),
        ({"type": "map", "values": ["null", {"type": "array", "items": INNER}]}, "Two has two fields of this name", "x.y"),
        ({"type": "record", "name": "Two", "fields": [{"name": "y z", "type": "int"}]}, "'y z' is no field's name", "x"),
        ({"type": "record", "name": "2", "fields": []}, "'2' in the namespace '' is no type's name", "x"),
        ({"type": "record", "name": "Two"}, "record lacks `fields`", "x"),
        ({"type": "map"}, "map lacks `values`", "x"),
        ({"type": "enum", "name": "E", "symbols": []}, r"\[\] are no symbols", "x"),
        ({"type": "fixed", "name": "F", "size": -1}, "-1 is no `size`", "x"),
        ({"type": "fixed", "name": "F", "size": 10**30}, "is no `size`", "x"),
        (["null", "long", {"type": "long"}], "a union has types, each once", "x"),
        (["null", ["long"]], "no union among them", "x"),
        ({"type": "long", "logicalType": ["a"]}, "is no logical type", "x"),
        ({"logicalType": "uuid"}, "the field lacks `type`", "x"),
        (None, "None is no type", "x"),
    ],
)
def test_a_schema_that_is_none_is_refused_by_field_and_with_a_fix(kind: Any, message: str, field: str) -> None:
    with pytest.raises(BadSchema, match=message) as caught:
        Decoder({"type": "record", "name": "One", "fields": [{"name": "x", "type": kind}]})
    assert caught.value.field == field
    assert caught.value.fix


@pytest.mark.parametrize(
    "kind", [{"type": "string"} | MILLIS, ["null", "int", {"type": "long"} | MILLIS], {"type": "int"} | MILLIS]
)
def test_an_instant_is_a_long_and_else_its_logical_type_is_not_heeded(kind: Any) -> None:
    schema = {"type": "record", "name": "One", "fields": [{"name": "x", "type": kind}, {"name": "y", "type": "int"}]}
    value = "a" if isinstance(kind, dict) and kind["type"] == "string" else 5
    got = both(schema, [encode(schema, {"x": value, "y": 1})])
    assert got.frame.to_dicts() == [{"y": 1} if isinstance(kind, list) else {"x": value, "y": 1}]


def test_a_record_that_names_a_field_twice_is_refused() -> None:
    with pytest.raises(BadSchema, match="One has two fields of this name"):
        Decoder({"type": "record", "name": "One", "fields": [{"name": "x", "type": "int"}, {"name": "x", "type": "string"}]})


def test_a_deep_schema_is_refused() -> None:
    kind: Any = "int"
    for _ in range(33):
        kind = {"type": "array", "items": kind}
    for deep in (kind, {"type": "array", "items": kind}):
        with pytest.raises(BadSchema, match="deeper"):
            Decoder({"type": "record", "name": "One", "fields": [{"name": "x", "type": deep}]})
    as_deep_as_may_be = kind["items"]["items"]
    values = [FRAME + b"\x02" * 31 + b"\x0a" + b"\0" * 31]
    got = both({"type": "record", "name": "One", "fields": [{"name": "x", "type": as_deep_as_may_be}]}, values)
    assert got.bad == []


def test_a_schema_that_multiplies_is_refused() -> None:
    kind: Any = "int"
    for level in range(30):
        twice = [{"name": "a", "type": kind}, {"name": "b", "type": "int" if level == 0 else f"R{level - 1}"}]
        kind = {"type": "record", "name": f"R{level}", "fields": twice}
    with pytest.raises(BadSchema, match="more than 10000 types"):
        Decoder(kind)


def test_a_batch_is_decoded_without_a_python_call_per_event() -> None:
    decoder, values = Decoder(FLIGHT), Blobs.of([encode(FLIGHT, flight())] * 1000)
    decoder.decode(values)  # the first one may compile the walk
    assert calls_of(lambda: decoder.decode(values)) < 200


def test_instants_come_in_microseconds() -> None:
    frame = both(FLIGHT, [encode(FLIGHT, flight(at=5, millis=7))]).frame
    assert (frame["at"].dtype, frame["at"][0], frame["millis"][0]) == (pl.Int64, 5, 7000)
    assert frame["at"].to_numpy().dtype == np.int64
