"""Why rows of one schema cannot be read by another: Avro's rules of schema resolution, on schemas alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tidemill.events.plain import Schema, plain

_PROMOTIONS: Final = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}


def unreadable(writer: Schema, reader: Schema) -> list[str]:
    """Each reason why a reader may fail on a row of the writer; empty where it can read all of them. Names do not count."""
    return list(_record(plain(writer), plain(reader), ""))


def broken(old: Schema, new: Schema, rule: str) -> list[str]:
    """What a change breaks under the registry's rule: BACKWARD (new readers, old rows), FULL (also old readers, new rows)."""
    found = [f"a reader of the new schema: {why}" for why in unreadable(old, new)]
    if rule.startswith("FULL"):
        found += [f"a reader of the old schema: {why}" for why in unreadable(new, old)]
    return found


def _record(writer: Schema, reader: Schema, path: str) -> Iterator[str]:
    written = {field["name"]: field for field in writer["fields"]}
    for field in reader["fields"]:
        at = f"{path}.{field['name']}".lstrip(".")
        if field["name"] in written:
            yield from _kind(written[field["name"]]["type"], field["type"], at)
        elif not field.get("optional"):
            yield f"{at} is missing and has no default"


def _kind(writer: Any, reader: Any, at: str) -> Iterator[str]:
    if isinstance(writer, list):
        for arm in writer:
            yield from _kind(arm, reader, at)
    elif isinstance(reader, list):
        if all(any(_kind(writer, arm, at)) for arm in reader):
            yield f"{at} may be {_name(writer)}"
    elif _name(writer) != _name(reader):
        if _name(reader) not in _PROMOTIONS.get(_name(writer), ()):
            yield f"{at} is {_name(writer)}, not {_name(reader)}"
    else:
        yield from _same(writer, reader, at)


def _same(writer: Any, reader: Any, at: str) -> Iterator[str]:
    """Two types of one name."""
    name = _name(writer)
    if name == "record":
        yield from _record(writer, reader, at)
    elif name in ("array", "map"):
        key = "items" if name == "array" else "values"
        yield from _kind(writer[key], reader[key], f"{at}[]")
    elif name == "enum":
        for symbol in writer["symbols"]:
            if symbol not in reader["symbols"]:
                yield f"{at} may be {symbol!r}"
    elif name == "fixed" and writer["size"] != reader["size"]:
        yield f"{at} has {writer['size']} bytes, not {reader['size']}"


def _name(kind: Any) -> str:
    return str(kind["type"] if isinstance(kind, dict) else kind)
