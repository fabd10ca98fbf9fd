"""Avro schemas spelled out: no names to look up, no logical types, nothing recursive."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
_UNNAMED: Final = (*PRIMITIVES, "array", "map")
"""What a union has once at most."""
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FIXES: Final = {
    "type": 'write `"type": "long"`, or another type',
    "name": 'write `"name": "..."`, of letters, digits and underscores',
    "fields": 'write `"fields": [...]`, a list of fields',
    "items": 'write `"items": "long"`, or another type',
    "values": 'write `"values": "long"`, or another type',
    "symbols": 'write `"symbols": ["A", "B"]`',
    "size": 'write `"size": 16`',
}
"""Of each key that a type may lack, how it is written."""


class BadSchema(Refused):
    """A schema that no decoder here takes: `field` is the one it is about, as `place.x`, `fix` what would be right."""

    def __init__(self, message: str, fix: str = "take it out", field: str = "") -> None:
        super().__init__("bad-schema", message)
        self.fix, self.field = fix, field


NO_SCHEMA: Final = (SchemaParseException, UnknownType, KeyError, TypeError, ValueError, RecursionError)
"""All that reading a schema was seen to raise where it is none."""


def check_schema(schema: Schema) -> Any:
    """The schema as fastavro wants it. Raises BadSchema as `plain` does, and where fastavro takes it for none."""
    try:
        plain(schema)
        return fastavro.parse_schema(schema, named_schemas={})
    except SchemaParseException as error:
        raise BadSchema(str(error), "write what Avro 1.12 allows") from error
    except NO_SCHEMA as error:
        raise BadSchema(f"{type(error).__name__}: {error}", "write what Avro 1.12 allows") from error


def full_name(schema: Mapping[str, Any]) -> str:
    """Namespace and name of a record's schema."""
    name = str(schema.get("name", ""))
    return name if "." in name else ".".join(filter(None, (schema.get("namespace"), name)))


def plain(schema: Schema) -> Schema:
    """The record with every named type written out where it is used.

    Logical types are dropped, but that of a long is kept as its field's `ticks`, and whether it has a default as `optional`.
    Raises BadSchema: a recursive or deep schema can exhaust the stack, one that multiplies the memory, and an array of items without
    bytes can name any number of them in ten bytes.
    """
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise BadSchema("the outermost type must be a record", 'write `{"type": "record", "name": "...", "fields": [...]}`')
    return _Plain().record(schema, schema.get("namespace", ""), ())


def value_of(kind: Any) -> Any:
    """A spelled-out type without its null branch, where one other is left."""
    arms = [arm for arm in kind if arm != "null"] if isinstance(kind, list) else [kind]
    return arms[0] if len(arms) == 1 else kind


def name_of(kind: Any) -> str:
    """Its name; "union" of several types, or of none."""
    return "union" if isinstance(kind, list) else str(kind["type"] if isinstance(kind, dict) else kind)


class _Plain:
    def __init__(self) -> None:
        self._named: dict[str, tuple[Schema, str]] = {}
        self._count = self._types = self._depth = 0
        self._at: list[str] = []

    def kind(self, kind: Any, namespace: str, within: tuple[str, ...]) -> Any:
        self._types, self._depth = self._types + 1, self._depth + 1
        if self._types > LARGEST:
            raise self._bad(f"more than {LARGEST} types when all are spelled out", "name fewer types in each other")
        if self._depth > DEEPEST:
            raise self._bad(f"nested deeper than {DEEPEST}", "take levels out")
        spelled = self._spelled(kind, namespace, within)
        self._depth -= 1
        return spelled

    def _spelled(self, kind: Any, namespace: str, within: tuple[str, ...]) -> Any:
        if isinstance(kind, list):
            return self._union(kind, namespace, within)
        if isinstance(kind, str):
            return kind if kind in PRIMITIVES else self._lookup(kind, namespace, within)
        if not isinstance(kind, dict):
            raise self._bad(f"{kind!r} is no type", _FIXES["type"])
        if not isinstance(kind.get("logicalType", ""), str):
            raise self._bad(f"{kind['logicalType']!r} is no logical type", "write a word, or leave it out")
        return self._complex(kind, namespace, within)

    def _union(self, arms: list[Any], namespace: str, within: tuple[str, ...]) -> list[Any]:
        names = [arm.get("type") if isinstance(arm, dict) else arm for arm in arms]
        unnamed = [name for name in names if name in _UNNAMED]
        if not arms or len(set(unnamed)) < len(unnamed) or any(isinstance(arm, list) for arm in arms):
            raise self._bad("a union has types, each once, and no union among them", 'write `["null", "long"]`')
        return [self.kind(arm, namespace, within) for arm in arms]

    def record(self, schema: Schema, namespace: str, within: tuple[str, ...]) -> Schema:
        name, space = self._full_name(schema, namespace)
        if name in within:
            raise self._bad(f"recursive: {name} contains itself", "name another type there")
        self._named[name] = (schema, namespace)
        names = [self._field_name(field, place) for place, field in enumerate(self._part(schema, "fields", list))]
        fields = []
        for at, field in zip(names, schema["fields"], strict=True):
            self._at.append(at)
            if names.count(at) > 1:
                raise self._bad(f"{name} has two fields of this name", "give one another name")
            fields.append(self._field(field, space, (*within, name)))
            self._at.pop()
        return {"type": "record", "name": self._fresh(), "fields": fields}

    def _field_name(self, field: Any, place: int) -> str:
        if not isinstance(field, dict) or not isinstance(field.get("name"), str):
            raise self._bad(f"the field at place {place + 1} lacks `name`", _FIXES["name"])
        if not _WORD.fullmatch(field["name"]):
            raise self._bad(f"{field['name']!r} is no field's name", _FIXES["name"])
        return str(field["name"])

    def _field(self, field: Schema, namespace: str, within: tuple[str, ...]) -> Schema:
        wanted = self._part(field, "type")
        kind = self.kind(wanted, namespace, within)
        extras = {"ticks": _ticks(wanted), "optional": "default" in field}
        return {"name": field["name"], "type": kind} | {name: value for name, value in extras.items() if value}

    def _complex(self, kind: Schema, namespace: str, within: tuple[str, ...]) -> Any:
        name = self._part(kind, "type")
        if name in ("array", "map"):
            key = "items" if name == "array" else "values"
            item = self.kind(self._part(kind, key), namespace, within)
            if name == "array" and not _has_bytes(item):
                raise self._bad("an array whose items have no bytes", "give them a type with a value")
            return {"type": name, key: item}
        if name in ("record", "error"):
            return self.record(kind, namespace, within)
        if name in ("enum", "fixed"):
            self._named[self._full_name(kind, namespace)[0]] = (kind, namespace)
            details = {"symbols": self._symbols(kind)} if name == "enum" else {"size": self._size(kind)}
            return {"type": name, "name": self._fresh(), **details}
        return self.kind(name, namespace, within)

    def _symbols(self, kind: Schema) -> list[str]:
        symbols: list[str] = self._part(kind, "symbols", list)
        if not symbols or not all(isinstance(one, str) and _WORD.fullmatch(one) for one in symbols):
            raise self._bad(f"{symbols!r} are no symbols", _FIXES["symbols"])
        return symbols

    def _size(self, kind: Schema) -> int:
        size: int = self._part(kind, "size", int)
        if not 0 <= size < 1 << 31:
            raise self._bad(f"{size} is no `size`", _FIXES["size"])
        return size

    def _part(self, schema: Schema, key: str, kind: type = object) -> Any:
        """What stands under a key of a type that cannot be without it."""
        if key not in schema:
            raise self._bad(f"{schema.get('type', 'the field')} lacks `{key}`", _FIXES[key])
        if not isinstance(schema[key], kind):
            raise self._bad(f"{schema[key]!r} is no `{key}`", _FIXES[key])
        return schema[key]

    def _full_name(self, schema: Schema, namespace: str) -> tuple[str, str]:
        """A named type's full name, and the namespace inside of it."""
        name, space = self._part(schema, "name", str), schema.get("namespace", namespace) or ""
        if "." in name:
            space, _, name = name.rpartition(".")
        if not _WORD.fullmatch(name) or not isinstance(space, str) or not all(map(_WORD.fullmatch, filter(None, space.split(".")))):
            raise self._bad(f"{name!r} in the namespace {space!r} is no type's name", _FIXES["name"])
        return (f"{space}.{name}" if space else name), space

    def _bad(self, message: str, fix: str) -> BadSchema:
        return BadSchema(message, fix, ".".join(self._at))

    def _lookup(self, name: str, namespace: str, within: tuple[str, ...]) -> Any:
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        found = self._named.get(full) or self._named.get(name)
        if found is None:
            raise self._bad(f"unknown type {name!r}", f"write one of {', '.join(PRIMITIVES)}, or a type named before")
        return self._complex(*found, within)

    def _fresh(self) -> str:
        self._count += 1
        return f"T{self._count}"


def _ticks(kind: Any) -> str:
    """The logical type of a long that may also be null; of all else none is heeded."""
    arms = [arm for arm in (kind if isinstance(kind, list) else [kind]) if arm != "null"]
    long = len(arms) == 1 and isinstance(arms[0], dict) and arms[0]["type"] == "long"
    return str(arms[0].get("logicalType", "")) if long else ""


def _has_bytes(kind: Any) -> bool:
    """Whether every value of a spelled-out type takes at least one byte."""
    if isinstance(kind, list):
        return True
    if isinstance(kind, str):
        return kind != "null"
    if kind["type"] == "record":
        return any(_has_bytes(field["type"]) for field in kind["fields"])
    return bool(kind["type"] != "fixed" or kind["size"] > 0)
