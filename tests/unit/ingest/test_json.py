"""A JSON event becomes its schema's datum, or a list of what is wrong with it."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import pytest

from services.ingest.adapters.json_avro import Encoder, Misfit, Problem

SCHEMA = {
    "type": "record", "name": "Wide", "fields": [
        {"name": "text", "type": "string"},
        {"name": "small", "type": "int", "default": 3},
        {"name": "big", "type": ["null", "long"], "default": None},
        {"name": "ratio", "type": ["null", "float"], "default": None},
        {"name": "flag", "type": "boolean", "default": False},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}, "default": 0},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["ONE", "TWO"]}, "default": "ONE"},
        {"name": "raw", "type": "bytes", "default": ""},
        {"name": "parts", "type": {"type": "array", "items": {"type": "record", "name": "Part", "fields": [{"name": "n", "type": "int"}]}}, "default": []},
        {"name": "tags", "type": {"type": "map", "values": "string"}, "default": {}},
    ],
}  # fmt: skip


def taken(**event: Any) -> dict[str, Any]:
    parsed = fastavro.parse_schema(SCHEMA, named_schemas={})
    return fastavro.schemaless_reader(io.BytesIO(Encoder(SCHEMA).encode({"text": "x", **event})), parsed, None)  # type: ignore[return-value]


def problems(event: Any) -> list[Problem]:
    with pytest.raises(Misfit) as misfit:
        Encoder(SCHEMA).encode(event)
    return misfit.value.problems


def test_every_kind_of_value_arrives() -> None:
    full = {"small": -7, "big": 2**40, "ratio": 2, "flag": True, "kind": "TWO", "parts": [{"n": 1}], "tags": {"a": "b"}}
    got = taken(**full, raw="\u0000\u00ff", at="2013-01-31T05:00:00+01:00")
    assert {name: got[name] for name in full} == full
    assert got["raw"] == b"\0\xff"
    assert got["at"].isoformat() == "2013-01-31T04:00:00+00:00"


def test_what_is_left_out_has_its_default() -> None:
    got = taken()
    assert (got["small"], got["big"], got["kind"], got["parts"]) == (3, None, "ONE", [])


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"small": 2**31}, "small"),
        ({"small": 1.0}, "small"),
        ({"small": False}, "small"),
        ({"big": 2**63}, "big"),
        ({"big": "7"}, "big"),
        ({"ratio": float("inf")}, "ratio"),
        ({"flag": 1}, "flag"),
        ({"at": "2013-01-31T05:00:00"}, "at"),
        ({"kind": "THREE"}, "kind"),
        ({"kind": []}, "kind"),
        ({"raw": "\u0100"}, "raw"),
        ({"parts": {}}, "parts"),
        ({"parts": [{"n": 1}, {"n": "x"}]}, "parts[1].n"),
        ({"parts": [7]}, "parts[0]"),
        ({"tags": {"a": 1}}, "tags.a"),
        ({"txet": "x"}, "txet"),
    ],
)
def test_what_does_not_fit_is_named_with_its_path(event: dict[str, Any], field: str) -> None:
    assert [problem.field for problem in problems({"text": "x", **event})] == [field]


def test_all_problems_are_told_at_once_with_a_fix_each() -> None:
    found = problems({"small": "a", "txet": "b"})
    assert {problem.field for problem in found} == {"text", "small", "txet"}
    assert all(problem.fix for problem in found)


@pytest.mark.parametrize("event", [None, 7, "x", ["x"], True])
def test_what_is_no_object_is_said_so(event: Any) -> None:
    assert "object" in problems(event)[0].fix
