"""A YAML file with the line of every key, and pydantic's findings told by those lines."""

from __future__ import annotations

import re
import types
import typing
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from tidemill.spec.errors import SpecError, SpecErrors

Path_ = tuple[str | int, ...]
"""The keys and indexes that lead to a value."""
M = TypeVar("M", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's words: `on`, `yes` and dates are texts, as they look."""


_Loader.yaml_implicit_resolvers = {
    first: kept
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    if (kept := [(tag, rule) for tag, rule in resolvers if tag.endswith(":null")])
}
for _tag, _pattern, _firsts in (
    ("bool", r"true|false", "tf"),
    ("int", r"-?(?:0|[1-9][0-9]*)", "-0123456789"),
    ("float", r"-?[0-9]+\.[0-9]+(?:[eE][-+]?[0-9]+)?|-?[0-9]+[eE][-+]?[0-9]+", "-0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_firsts))


@dataclass
class Document:
    """One file's content and where each part of it stands."""

    file: str
    content: Any = None
    lines: dict[Path_, int] = field(default_factory=dict)
    errors: list[SpecError] = field(default_factory=list)

    def line(self, path: Path_) -> int:
        """The line of a value, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def error(self, path: Path_, message: str, fix: str = "") -> None:
        """Take down a finding."""
        self.errors.append(SpecError(self.file, self.line(path), dotted(path), message, fix))


def read(folder: Path, file: str) -> Document:
    """The file's content; raises SpecErrors where it is missing or no YAML."""
    document = Document(file)
    try:
        node = yaml.compose((folder / file).read_text(), _Loader)
        document.content = _build(node, (), document) if node else None
    except FileNotFoundError:
        raise SpecErrors([SpecError(file, 1, "-", f"is not in {folder}", "every use case has this file")]) from None
    except OSError as error:
        raise SpecErrors(
            [SpecError(file, 1, "-", f"cannot be read in {folder}: {error.strerror}", "name a use case's folder")]
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or error
        raise SpecErrors([SpecError(file, mark.line + 1 if mark else 1, "-", f"no YAML: {what}")]) from error
    except RecursionError:
        raise SpecErrors([SpecError(file, 1, "-", "nested without end", "an alias names its own anchor")]) from None
    if not isinstance(document.content, dict):
        document.error((), "a mapping of keys to values is expected")
    return document


def parse(document: Document, model: type[M]) -> M | None:
    """The document as a model, or None and its errors taken down."""
    if not isinstance(document.content, dict):
        return None
    try:
        return model.model_validate(document.content)
    except ValidationError as error:
        for found in error.errors():
            _tell(document, model, found)
        return None


def near(name: str, known: typing.Iterable[str]) -> str:
    """`did you mean ...?`, or what is known."""
    names = list(known)
    close = get_close_matches(name, names, 1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names) or 'none'}"


def dotted(path: Path_) -> str:
    """`views.origin_traffic.features`."""
    return ".".join(map(str, path)) or "-"


def _build(node: yaml.Node, path: Path_, document: Document) -> Any:
    document.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, document)
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*path, index), document) for index, item in enumerate(node.value)]
    return yaml.constructor.SafeConstructor().construct_object(node)


def _mapping(node: yaml.MappingNode, path: Path_, document: Document) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in node.value:
        name = str(key.value)
        document.lines[(*path, name)] = key.start_mark.line + 1
        if name in out:
            document.error((*path, name), "named twice", "keep one of them")
        out[name] = _build(value, (*path, name), document)
    return out


def _tell(document: Document, model: type[BaseModel], found: Any) -> None:
    path = tuple(part for part in found["loc"])
    message, fix = found["msg"].removeprefix("Value error, "), ""
    if found["type"] == "extra_forbidden":
        message = f"unknown key {path[-1]!r}"
        fix = near(str(path[-1]), _keys(model, path[:-1]))
    elif found["type"] == "missing":
        message = f"{path[-1]!r} is missing"
        fix = f"add `{path[-1]}: ...`"
    elif found["type"] == "string_pattern_mismatch":
        message = f"{found['input']!r} is not a possible name"
        fix = f"it must match {found['ctx']['pattern']}"
    elif found["type"] == "literal_error":
        message = f"{found['input']!r} is not possible"
        fix = f"one of {found['ctx']['expected']}"
    document.error(_known(document, path), message, fix)


def _known(document: Document, path: Path_) -> Path_:
    """The path without what is not in the file: pydantic also names union arms and `[key]`."""
    out: Path_ = ()
    for part in path:
        out = (*out, part) if (*out, part) in document.lines else out
    return out


def _keys(model: Any, path: Path_) -> list[str]:
    """The keys possible at a path of a model."""
    for part in path:
        model = _arm(model, part)
        if model is None:
            return []
    fields = _fields(model)
    return [info.alias or name for name, info in fields.items()]


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
