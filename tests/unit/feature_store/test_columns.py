"""A column is the same whether the walk has kept it or a frame has it."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.feature_store.columns import Events, read
from tidemill.events.blobs import Blobs
from tidemill.events.columnar import Decoder
from tidemill.events.decoded import Decoded
from tidemill.spec.columns import columns_of
from tidemill.spec.expressions import compile as expression

SCHEMA: dict[str, Any] = {
    "type": "record", "name": "Ask", "fields": [
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "who", "type": ["null", "string"]},
        {"name": "x", "type": ["null", "double"]},
        {"name": "n", "type": ["int", "null"]},
        {"name": "loud", "type": ["null", "boolean"]},
        {"name": "size", "type": {"type": "enum", "name": "Size", "symbols": ["S", "M"]}},
        {"name": "tags", "type": {"type": "map", "values": "string"}},
    ],
}  # fmt: skip
KNOWN = columns_of(SCHEMA)
EXPRESSIONS = [
    "x",
    "loud",
    "x > 1",
    "x / n",
    "loud OR n > 0",
    "who = 'a'",
    "LENGTH(who) + n",
    "size IN ('M') AND x IS NULL",
    "at > 5",
]
rows = st.fixed_dictionaries(
    {
        "at": st.integers(-(10**12), 10**12),
        "who": st.none() | st.sampled_from(["a", "ä", ""]),
        "x": st.none() | st.floats(),
        "n": st.none() | st.integers(-3, 3),
        "loud": st.none() | st.booleans(),
        "size": st.sampled_from("SM"),
        "tags": st.just({"k": "v"}),
    }
)


def written(found: list[dict[str, Any]]) -> Blobs:
    values = []
    for row in found:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, fastavro.parse_schema(SCHEMA, named_schemas={}), row)
        values.append(b"\0\0\0\0\1" + out.getvalue())
    return Blobs.of(values)


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_an_expression_is_of_the_same_value(text: str) -> None:
    asked = expression(text, KNOWN)

    @given(st.lists(rows, max_size=9))
    def check(found: list[dict[str, Any]]) -> None:
        kept, framed = both(found)
        assert np.array_equal(kept.value(asked), framed.value(asked), equal_nan=True)

    check()


@given(st.lists(rows, max_size=9))
def test_keys_and_times_are_the_same(found: list[dict[str, Any]]) -> None:
    kept, framed = both(found)
    for entity in (("who",), ("who", "n"), ("size",), ("loud", "at")):
        assert kept.key(entity).tolist() == framed.key(entity).tolist()
    assert kept.instants("at").tolist() == framed.instants("at").tolist() == [1_000 * row["at"] for row in found]


def both(found: list[dict[str, Any]]) -> tuple[Events, Events]:
    """The events as the walk has kept them, and as a frame."""
    values, index = written(found), np.arange(len(found))
    kept, bad = read(values, {1: index}, {1: Decoder(SCHEMA)}, KNOWN)
    framed = Decoder(SCHEMA, one_by_one=True).decode(values).frame
    assert not len(bad)
    return kept, Events(index, Decoded.of(framed))
