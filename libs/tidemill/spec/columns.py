"""The columns of a raw schema, as expressions and checks see them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

Kind = Literal["number", "boolean", "text", "other"]

_KINDS: dict[str, Kind] = {
    "int": "number",
    "long": "number",
    "float": "number",
    "double": "number",
    "boolean": "boolean",
    "string": "text",
    "enum": "text",
}
_TIMES = {
    "timestamp-millis": 1000,
    "timestamp-micros": 1,
    "local-timestamp-millis": 1000,
    "local-timestamp-micros": 1,
}


@dataclass(frozen=True)
class Column:
    """A field of a raw event."""

    kind: Kind
    """Numbers are computed as doubles; instants are numbers, us since the epoch."""
    nullable: bool
    time: bool
    """Whether it is an instant."""
    avro: str = ""
    """The name of its type: `long`, `enum`."""
    default: Any = None
    """What an event has whose writer did not know the field; of an instant in us."""


def columns_of(schema: dict[str, Any]) -> dict[str, Column]:
    """Every field of a record, in order."""
    return {field["name"]: _column(field) for field in schema["fields"]}


def column_of(kind: Any) -> Column:
    """The column of an Avro type."""
    arms = kind if isinstance(kind, list) else [kind]
    values = [arm for arm in arms if arm != "null"]
    if len(values) != 1:
        return Column("other", True, False)
    base = values[0]
    logical = base.get("logicalType", "") if isinstance(base, dict) else ""
    name = base["type"] if isinstance(base, dict) else base
    if logical and logical not in _TIMES:
        return Column("text" if logical == "uuid" and name == "string" else "other", "null" in arms, False, str(name))
    plain = _KINDS.get(name, "other") if isinstance(name, str) else "other"
    return Column(plain, "null" in arms, logical in _TIMES and name == "long", str(name))


def _column(field: dict[str, Any]) -> Column:
    column, default = column_of(field["type"]), field.get("default")
    return replace(column, default=default * _unit(field["type"]) if column.time and default is not None else default)


def _unit(kind: Any) -> int:
    """Microseconds in one of an instant's numbers."""
    arms = kind if isinstance(kind, list) else [kind]
    return next(_TIMES[arm["logicalType"]] for arm in arms if isinstance(arm, dict))
