"""Avro schemas spelled out: no names to look up, no logical types, nothing recursive."""

from __future__ import annotations

from typing import Any, Final

import fastavro
from fastavro.schema import SchemaParseException, UnknownType

from tidemill.errors import Refused

Schema = dict[str, Any]

DEEPEST: Final = 32
"""How deep types may lie in each other."""
LARGEST: Final = 10_000
"""How many types a schema may have when all are spelled out: a few names that use each other twice make millions."""
PRIMITIVES: Final = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")


class BadSchema(Refused):
    """A schema that no decoder here takes."""

    def __init__(self, message: str) -> None:
        super().__init__("bad-schema", message)


NO_SCHEMA: Final = (SchemaParseException, UnknownType, KeyError, TypeError, ValueError, RecursionError)
"""All that reading a schema was seen to raise where it is none."""


def check_schema(schema: Schema) -> Any:
    """The schema as fastavro wants it. Raises BadSchema as `plain` does, and where fastavro takes it for none."""
    try:
        plain(schema)
        return fastavro.parse_schema(schema, named_schemas={})
    except NO_SCHEMA as error:
        raise BadSchema(f"{type(error).__name__}: {error}") from error


def plain(schema: Schema) -> Schema:
    """The record with every named type written out where it is used.

    Logical types are dropped, but a field's logical type is kept as its `ticks`, and whether it has a default as `optional`.
    Raises BadSchema: a recursive or deep schema can exhaust the stack, one that multiplies the memory, and an array of items without
    bytes can name any number of them in ten bytes.
    """
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise BadSchema("the outermost type must be a record")
    return _Plain().record(schema, schema.get("namespace", ""), ())


class _Plain:
    def __init__(self) -> None:
        self._named: dict[str, tuple[Schema, str]] = {}
        self._count = self._types = self._depth = 0

    def kind(self, kind: Any, namespace: str, within: tuple[str, ...]) -> Any:
        self._types, self._depth = self._types + 1, self._depth + 1
        if self._types > LARGEST:
            raise BadSchema(f"more than {LARGEST} types when all are spelled out")
        if self._depth > DEEPEST:
            raise BadSchema(f"nested deeper than {DEEPEST}")
        spelled = self._spelled(kind, namespace, within)
        self._depth -= 1
        return spelled

    def _spelled(self, kind: Any, namespace: str, within: tuple[str, ...]) -> Any:
        if isinstance(kind, list):
            return [self.kind(arm, namespace, within) for arm in kind]
        if isinstance(kind, str):
            return kind if kind in PRIMITIVES else self._lookup(kind, namespace, within)
        if not isinstance(kind, dict) or "type" not in kind:
            raise BadSchema(f"no type: {kind!r}")
        return self._complex(kind, namespace, within)

    def record(self, schema: Schema, namespace: str, within: tuple[str, ...]) -> Schema:
        name, space = _full_name(schema, namespace)
        if name in within:
            raise BadSchema(f"recursive: {name} contains itself")
        self._named[name] = (schema, namespace)
        fields = [self._field(field, space, (*within, name)) for field in schema["fields"]]
        return {"type": "record", "name": self._fresh(), "fields": fields}

    def _field(self, field: Schema, namespace: str, within: tuple[str, ...]) -> Schema:
        arms = field["type"] if isinstance(field["type"], list) else [field["type"]]
        ticks = next((arm["logicalType"] for arm in arms if isinstance(arm, dict) and arm.get("logicalType")), None)
        extras = {"ticks": ticks, "optional": "default" in field}
        kind = self.kind(field["type"], namespace, within)
        return {"name": field["name"], "type": kind} | {name: value for name, value in extras.items() if value}

    def _complex(self, kind: Schema, namespace: str, within: tuple[str, ...]) -> Any:
        name = kind["type"]
        if name in ("array", "map"):
            key = "items" if name == "array" else "values"
            item = self.kind(kind[key], namespace, within)
            if name == "array" and not _has_bytes(item):
                raise BadSchema("an array whose items have no bytes")
            return {"type": name, key: item}
        if name in ("record", "error"):
            return self.record(kind, namespace, within)
        if name in ("enum", "fixed"):
            self._named[_full_name(kind, namespace)[0]] = (kind, namespace)
            details = {"symbols": kind["symbols"]} if name == "enum" else {"size": kind["size"]}
            return {"type": name, "name": self._fresh(), **details}
        return self.kind(name, namespace, within)

    def _lookup(self, name: str, namespace: str, within: tuple[str, ...]) -> Any:
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        found = self._named.get(full) or self._named.get(name)
        if found is None:
            raise BadSchema(f"unknown type {name!r}")
        return self._complex(*found, within)

    def _fresh(self) -> str:
        self._count += 1
        return f"T{self._count}"


def _full_name(schema: Schema, namespace: str) -> tuple[str, str]:
    """A named type's full name, and the namespace inside of it."""
    name = str(schema["name"])
    if "." in name:
        return name, name.rpartition(".")[0]
    space = str(schema.get("namespace", namespace) or "")
    return (f"{space}.{name}" if space else name), space


def _has_bytes(kind: Any) -> bool:
    """Whether every value of a spelled-out type takes at least one byte."""
    if isinstance(kind, list):
        return True
    if isinstance(kind, str):
        return kind != "null"
    if kind["type"] == "record":
        return any(_has_bytes(field["type"]) for field in kind["fields"])
    return bool(kind["type"] != "fixed" or kind["size"] > 0)
