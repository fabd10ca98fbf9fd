"""A YAML file with the line of every key."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import yaml

from tidemill.spec.errors import SpecError

Path_ = tuple[str | int, ...]
"""The keys and indexes that lead to a value."""
LARGEST: Final = 100_000
"""How many values a file may have when its aliases are spelled out: a few that name each other twice make millions."""
_SHOWN: Final = 60
"""Characters of a value that a message repeats."""


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


def _encodable(text: str) -> str:
    text.encode()  # YAML's escapes also write half a surrogate pair
    return text


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


def _whole(text: str) -> int:
    _finite(text)
    return int(text)


_SCALARS: Final[dict[str, tuple[Callable[[str], Any], str, str]]] = {
    "null": (lambda text: None, "", ""),
    "bool": ({"true": True, "false": False}.__getitem__, "neither true nor false", "write true or false"),
    "int": (_whole, "no whole number", "write digits, 300 at most"),
    "float": (_finite, "no number that a double can hold", "write one up to 1e308"),
    "str": (_encodable, "no text", "write characters that UTF-8 has"),
}
"""Of each of YAML's plain types: how it is read, what is said of a text that is none, and what to do."""


@dataclass
class Document:
    """One file's content and where each part of it stands."""

    file: str
    content: Any = None
    lines: dict[Path_, int] = field(default_factory=dict)
    errors: list[SpecError] = field(default_factory=list)
    unread: set[Path_] = field(default_factory=set)
    """Where something stands that could not be read: what its type should be is no question then."""

    def line(self, path: Path_) -> int:
        """The line of a value, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def error(self, path: Path_, message: str, fix: str = "") -> None:
        """Take down a finding."""
        self.errors.append(SpecError(self.file, self.line(path), dotted(path), message, fix))


def read(folder: Path, file: str) -> Document:
    """The file's content; where it is missing or no YAML, that is taken down, and nothing is read."""
    document, text = Document(file), ""
    try:
        text = (folder / file).read_text(encoding="utf-8-sig")
        node = yaml.compose(text, _Loader)
        document.content = _build(node, (), document) if node else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        document.unread.add(())
        document.errors.append(_unreadable(folder, file, text, error))
    return document


def bad_byte(file: str, error: UnicodeDecodeError) -> SpecError:
    """What is wrong with a file that is not UTF-8."""
    line = error.object[: error.start].count(b"\n") + 1
    return SpecError(file, line, "-", f"the byte 0x{error.object[error.start]:02x} is not UTF-8", "save it as UTF-8")


def near(name: str, known: Iterable[str]) -> str:
    """`did you mean ...?`, or what is known."""
    names = list(known)
    close = get_close_matches(name, names, 1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names) or 'none'}"


def shown(value: object) -> str:
    """A value as a message repeats it."""
    return cut(str(value).lower() if isinstance(value, bool) else repr(value), _SHOWN)


def cut(text: str, longest: int = 200) -> str:
    """The text's beginning where it is long."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def dotted(path: Path_) -> str:
    """`views.origin_traffic.features`."""
    return ".".join(map(str, path)) or "-"


def _unreadable(folder: Path, file: str, text: str, error: Exception) -> SpecError:
    match error:
        case FileNotFoundError():
            return SpecError(file, 1, "-", f"is not in {folder}", "every use case has this file")
        case OSError():
            return SpecError(file, 1, "-", f"cannot be read in {folder}: {error.strerror}", "name a use case's folder")
        case UnicodeDecodeError():
            return bad_byte(file, error)
        case RecursionError():
            return SpecError(file, 1, "-", "nested without end", "take out the alias in what its anchor names")
        case yaml.reader.ReaderError():
            line = text.count("\n", 0, error.position) + 1
            return SpecError(file, line, "-", f"no YAML: the character {error.character:#06x}", "take it out")
    mark, what = getattr(error, "problem_mark", None), getattr(error, "problem", None) or error
    return SpecError(file, mark.line + 1 if mark else 1, "-", f"no YAML: {what}", "look for a bracket, a quote or an indent")


def _build(node: yaml.Node, path: Path_, document: Document) -> Any:
    document.lines.setdefault(path, node.start_mark.line + 1)
    if len(document.lines) > LARGEST:
        raise RecursionError
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, document)
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*path, index), document) for index, item in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)
    return _scalar(node, path, document)


def _scalar(node: yaml.ScalarNode, path: Path_, document: Document) -> Any:
    tag = node.tag.removeprefix("tag:yaml.org,2002:")
    if tag not in _SCALARS:
        document.error(path, f"the tag {node.tag.replace('tag:yaml.org,2002:', '!!')} means nothing here", "leave it out")
        document.unread.add(path)
        return None
    read, message, fix = _SCALARS[tag]
    try:
        return read(node.value)
    except (KeyError, ValueError):
        document.error(path, f"{shown(node.value)} is {message}", fix)
        document.unread.add(path)
        return None


def _mapping(node: yaml.MappingNode, path: Path_, document: Document) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in node.value:
        name = key.value
        if not _is_word(name):
            document.errors.append(
                SpecError(document.file, key.start_mark.line + 1, dotted(path), "a key is one word", "write `KEY: ...`")
            )
            continue
        document.lines[(*path, name)] = key.start_mark.line + 1
        if name in out:
            document.error((*path, name), "named twice", "keep one of them")
        out[name] = _build(value, (*path, name), document)
    return out


def _is_word(key: object) -> bool:
    """Whether a key is a text, not a list or mapping, and one that can be shown."""
    return isinstance(key, str) and key.isprintable()
