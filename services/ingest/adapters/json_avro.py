"""A JSON object as an Avro datum of its source's schema; what does not fit is told per field, with what to do."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any, Final

import fastavro

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICKS: Final = {"timestamp-millis": 1000, "timestamp-micros": 1, "local-timestamp-millis": 1000, "local-timestamp-micros": 1}
_BITS: Final = {"int": 31, "long": 63}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with an event."""

    field: str
    """Its path: `dep_delay`, `route[2].airport`; empty for the whole event."""
    message: str
    fix: str


class Misfit(Exception):
    """The event does not fit the schema."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{problem.field}: {problem.message}" for problem in problems))
        self.problems = problems


class Encoder:
    """Encodes the events of one schema."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._parsed = fastavro.parse_schema(schema, named_schemas={})

    def encode(self, event: Any) -> bytes:
        """The datum, without prefix; raises Misfit with all problems."""
        problems: list[Problem] = []
        value = _record(self._schema, event, "", problems)
        if problems:
            raise Misfit(problems)
        out = io.BytesIO()
        try:
            fastavro.schemaless_writer(out, self._parsed, value)
        except (ValueError, TypeError, OverflowError, AttributeError, KeyError, UnicodeError) as error:
            raise Misfit([Problem("", f"does not fit the schema: {error}", "compare it with the source's schema")]) from error
        return out.getvalue()


def _record(schema: dict[str, Any], value: Any, path: str, problems: list[Problem]) -> Any:
    if not isinstance(value, dict):
        problems.append(Problem(path, f"is {_kind(value)}", "write a JSON object"))
        return None
    names = [field["name"] for field in schema["fields"]]
    for name in value.keys() - set(names):
        near = get_close_matches(name, names, 1)
        fix = f"write {near[0]!r}" if near else f"leave it out; the schema has {', '.join(names)}"
        problems.append(Problem(_at(path, name), "is no field of the schema", fix))
    return {field["name"]: _field(field, value, path, problems) for field in schema["fields"]}


def _field(field: dict[str, Any], value: dict[str, Any], path: str, problems: list[Problem]) -> Any:
    at = _at(path, field["name"])
    if field["name"] in value:
        return _value(field["type"], value[field["name"]], at, problems)
    if "default" in field:
        return _value(field["type"], field["default"], at, problems)
    problems.append(Problem(at, "is missing", f"add it: {_wanted(field['type'])}"))
    return None


def _value(kind: Any, value: Any, path: str, problems: list[Problem]) -> Any:
    if isinstance(kind, list):
        return _union(kind, value, path, problems)
    name = kind["type"] if isinstance(kind, dict) else kind
    if isinstance(name, dict | list):
        return _value(name, value, path, problems)
    check = _CHECKS.get(name)
    if check is None:
        return value  # a named type: the writer judges it
    return check(kind if isinstance(kind, dict) else {"type": kind}, value, path, problems)


def _union(arms: list[Any], value: Any, path: str, problems: list[Problem]) -> Any:
    if value is None and "null" in arms:
        return None
    tried: list[list[Problem]] = []
    for arm in arms:
        if arm != "null":
            found: list[Problem] = []
            taken = _value(arm, value, path, found)
            if not found:
                return taken
            tried.append(found)
    none_fits = [Problem(path, f"is {_kind(value)}", "write null")]
    problems += sorted(tried, key=len)[0] if tried else none_fits
    return None


def _number(schema: dict[str, Any], value: Any, path: str, problems: list[Problem]) -> Any:
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        problems.append(Problem(path, f"is {_kind(value)}", "write a finite number"))
        return None
    return number


def _integer(schema: dict[str, Any], value: Any, path: str, problems: list[Problem]) -> Any:
    ticks = _TICKS.get(schema.get("logicalType", ""))
    if ticks is not None and isinstance(value, str):
        return _moment(value, ticks, path, problems)
    bits = _BITS[schema["type"]]
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**bits) <= value < 2**bits:
        problems.append(Problem(path, f"is {_kind(value)}", f"write {_wanted(schema)}"))
        return None
    return value


def _moment(text: str, ticks: int, path: str, problems: list[Problem]) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError("it names no zone")
        return (moment - _EPOCH) // timedelta(microseconds=ticks)
    except (ValueError, OverflowError) as error:
        problems.append(Problem(path, f"{text[:60]!r} is no time: {error}", "write 2013-01-31T05:00:00Z, or a number"))
        return None


def _plain(wanted: type, name: str) -> Callable[[dict[str, Any], Any, str, list[Problem]], Any]:
    def check(schema: dict[str, Any], value: Any, path: str, problems: list[Problem]) -> Any:
        if not isinstance(value, wanted):
            problems.append(Problem(path, f"is {_kind(value)}", f"write {name}"))
        return value

    return check


def _bytes(schema: dict[str, Any], value: Any, path: str, problems: list[Problem]) -> Any:
    """As Avro's own JSON encoding has it: a text whose characters are the bytes."""
    if not isinstance(value, str) or any(ord(char) > 255 for char in value):
        problems.append(Problem(path, f"is {_kind(value)}", "write a text of the characters \\u0000 to \\u00ff, one per byte"))
        return None
    return value.encode("latin-1")


def _enum(schema: dict[str, Any], value: Any, path: str, problems: list[Problem]) -> Any:
    if value not in schema["symbols"]:
        problems.append(Problem(path, f"is {_kind(value)}", f"write one of {', '.join(schema['symbols'])}"))
    return value


def _array(schema: dict[str, Any], value: Any, path: str, problems: list[Problem]) -> Any:
    if not isinstance(value, list):
        problems.append(Problem(path, f"is {_kind(value)}", "write a JSON array"))
        return None
    return [_value(schema["items"], item, f"{path}[{i}]", problems) for i, item in enumerate(value)]


def _map(schema: dict[str, Any], value: Any, path: str, problems: list[Problem]) -> Any:
    if not isinstance(value, dict):
        problems.append(Problem(path, f"is {_kind(value)}", "write a JSON object"))
        return None
    return {key: _value(schema["values"], item, _at(path, key), problems) for key, item in value.items()}


_CHECKS: Final[dict[str, Callable[[dict[str, Any], Any, str, list[Problem]], Any]]] = {
    "int": _integer,
    "long": _integer,
    "float": _number,
    "double": _number,
    "boolean": _plain(bool, "true or false"),
    "string": _plain(str, "a text"),
    "null": _plain(type(None), "null"),
    "bytes": _bytes,
    "fixed": _bytes,
    "enum": _enum,
    "array": _array,
    "map": _map,
    "record": _record,
}
_WANTED: Final = {
    "int": "a whole number of 32 bits",
    "long": "a whole number of 64 bits",
    "float": "a finite number",
    "double": "a finite number",
    "string": "a text",
    "boolean": "true or false",
}


def _wanted(kind: Any) -> str:
    if isinstance(kind, list):
        return " or ".join(_wanted(arm) for arm in kind)
    if isinstance(kind, dict):
        return "a time such as 2013-01-31T05:00:00Z" if kind.get("logicalType") in _TICKS else _wanted(kind["type"])
    return _WANTED.get(kind, str(kind))


def _kind(value: Any) -> str:
    names = {bool: "true or false", str: "the text", int: "the number", float: "the number", list: "an array", dict: "an object"}
    if value is None:
        return "null"
    shown = f" {value!r}"[:60] if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    return names.get(type(value), type(value).__name__) + shown


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
