"""A document as a model; what pydantic finds is told in plain words, with a fix, at the line where it stands."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from tidemill.spec.files import Document, Path_, cut, near, shown

M = TypeVar("M", bound=BaseModel)

_NOTHING: Final = "nothing stands here"
_WHOLE: Final = ("{value} is no whole number", "write digits, as in 7")
_NUMBER: Final = ("{value} is no number", "write digits, as in 0.5")
_TRUTH: Final = ("{value} is neither true nor false", "write true or false")
_WORDS: Final = {
    "bool_parsing": _TRUTH,
    "bool_type": _TRUTH,
    "dict_type": ("{value} is no mapping of names to values", "write `NAME: ...`, one a line"),
    "finite_number": ("{value} is more than a double can hold", "write a number up to 1e308"),
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "greater_than": ("{value} is too small", "write more than {gt}"),
    "greater_than_equal": ("{value} is too small", "write {ge} or more"),
    "int_from_float": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_type": _WHOLE,
    "less_than": ("{value} is too large", "write less than {lt}"),
    "less_than_equal": ("{value} is too large", "write {le} or less"),
    "list_type": ("{value} is no list", "write `[{entry}]`"),
    "literal_error": ("{value} is not possible", "one of {expected}"),
    "model_type": ("{value} is no mapping of keys to values", "write `{{{keys}}}`"),
    "string_pattern_mismatch": ("{value} is not a possible name", "it must match {pattern}"),
    "string_too_long": ("{value} is too long", "write {max_length} characters at most"),
    "string_type": ("{value} is no text", "write a word, in quotes where it looks like a number"),
    "too_long": ("too many", "write {max_length} at most"),
    "too_short": ("too few", "write {min_length} or more"),
}
"""Of pydantic's types of errors, what is said and what is to be done."""
_OTHER: Final = ("{value} is not possible here", "compare it with usecases/flights")


class _Finding(NamedTuple):
    union: Path_ | None
    """Where the union stands of which this is one arm's."""
    path: Path_
    message: str
    fix: str


def parse(document: Document, model: type[M]) -> M | None:
    """The document as a model, or None and its errors taken down."""
    if () in document.unread:
        return None
    try:
        return model.model_validate(document.content)
    except ValidationError as error:
        for found in _fitting([_found(document, model, one) for one in error.errors()]):
            if found.path not in document.unread:
                document.error(found.path, found.message, found.fix)
        return None


def _fitting(findings: list[_Finding]) -> Iterator[_Finding]:
    """Of a union's arms the one that was followed deepest; several that were not followed at all are one finding."""
    for union, group in groupby(findings, lambda one: one.union):
        arms = list(group)
        deepest = max(len(one.path) for one in arms)
        best = [one for one in arms if len(one.path) == deepest]
        if union is None:
            yield from arms
        elif deepest > len(union):
            yield from best
        else:
            yield best[0]._replace(fix=" or ".join(one.fix for one in best))


def _found(document: Document, model: type[BaseModel], found: Any) -> _Finding:
    loc: Path_ = found["loc"]
    known = next(loc[:end] for end in range(len(loc), -1, -1) if loc[:end] in document.lines or not end)
    beyond = loc[len(known) :]
    lacking = found["type"] == "missing" and len(beyond) == 1
    return _Finding(known if beyond and not lacking and beyond != ("[key]",) else None, _place(document, loc), *_told(model, found))


def _place(document: Document, loc: Path_) -> Path_:
    """The path without what is not in the file: pydantic also names union arms and `[key]`."""
    out: Path_ = ()
    for part in loc:
        out = (*out, part) if (*out, part) in document.lines else out
    return out


def _told(model: type[BaseModel], found: Any) -> tuple[str, str]:
    """What is said of a finding, and the fix."""
    path, value = found["loc"], found["input"]
    if found["type"] == "extra_forbidden":
        return f"unknown key {shown(path[-1])}", near(str(path[-1]), _keys(model, path[:-1]))
    if found["type"] == "missing":
        return f"{path[-1]!r} is missing", f"add `{path[-1]}: ...`"
    if found["type"] == "value_error":
        message, _, fix = str(found["ctx"]["error"]).rpartition(": write ")
        return _NOTHING if value is None else cut(message), f"write {fix}"
    message, fix = _WORDS.get(found["type"], _OTHER)
    entry = value if isinstance(value, str | int | float) else "..."
    keys = ", ".join(f"{key}: ..." for key in _wanted(model, path))
    return _NOTHING if value is None else message.format(value=shown(value)), fix.format(
        **found.get("ctx", {}), entry=entry, keys=keys
    )


def _keys(model: Any, path: Path_) -> list[str]:
    """The keys possible at a path of a model."""
    return [info.alias or name for name, info in _fields(_at(model, path)).items()]


def _wanted(model: Any, path: Path_) -> list[str]:
    """The keys that must stand at a path of a model; where none must, those that can."""
    needed = [info.alias or name for name, info in _fields(_at(model, path)).items() if info.is_required()]
    return needed or _keys(model, path)


def _at(kind: Any, path: Path_) -> Any:
    for part in path:
        kind = _arm(kind, part)
    return kind


def _arm(kind: Any, part: str | int) -> Any:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        infos = [info for name, info in kind.model_fields.items() if part in (name, info.alias)]
        return infos[0].annotation if infos else kind if part == kind.__name__ else None
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _arm(args[0], part)
    if origin in (typing.Union, types.UnionType):
        return next((found for arg in args if (found := _arm(arg, part)) is not None), None)
    return args[-1] if origin in (dict, list) else None


def _fields(kind: Any) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind.model_fields
    return next((found for arg in typing.get_args(kind) if (found := _fields(arg))), {})
