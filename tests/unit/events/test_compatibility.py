"""Which changes of a schema break whom."""

from typing import Any

import pytest

from tidemill.events.compatibility import broken, unreadable


def record(*fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": "Fact", "fields": list(fields)}


def field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind} | more


A = field("a", "string")


@pytest.mark.parametrize(
    ("old", "new", "backward", "full"),
    [
        (record(A), record(A), True, True),
        (record(A), record(A, field("b", ["null", "string"], default=None)), True, True),
        (record(A), record(A, field("b", "string")), False, False),
        (record(A, field("b", "string")), record(A), True, False),
        (record(A), record(field("a", "long")), False, False),
        (record(field("a", "int")), record(field("a", "double")), True, False),
        (record(A), record(field("a", ["null", "string"])), True, False),
        (record(field("a", ["null", "string"])), record(A), False, False),
        (
            record(field("a", {"type": "array", "items": "int"})),
            record(field("a", {"type": "array", "items": "string"})),
            False,
            False,
        ),
        (record(field("a", {"type": "map", "values": "int"})), record(field("a", {"type": "map", "values": "long"})), True, False),
    ],
)
def test_a_change_breaks_whom_it_breaks(old: dict[str, Any], new: dict[str, Any], backward: bool, full: bool) -> None:
    assert (broken(old, new, "BACKWARD_TRANSITIVE") == []) == backward
    assert (broken(old, new, "FULL_TRANSITIVE") == []) == full


def test_a_reason_names_the_field_and_what_is_wrong() -> None:
    enums = [record(field("a", {"type": "enum", "name": "E", "symbols": symbols})) for symbols in (["A", "B"], ["A"])]
    fixed = [record(field("a", {"type": "fixed", "name": "F", "size": size})) for size in (4, 8)]
    inner = [record(field("p", {"type": "record", "name": "P", "fields": [field("x", kind)]})) for kind in ("int", "string")]
    assert unreadable(*enums) == ["a may be 'B'"]
    assert unreadable(*fixed) == ["a has 4 bytes, not 8"]
    assert unreadable(*inner) == ["p.x is int, not string"]
    assert unreadable(record(), record(A)) == ["a is missing and has no default"]
