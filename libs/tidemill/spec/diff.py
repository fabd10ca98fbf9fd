"""What a spec's change consists of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from tidemill.spec.bundle import Bundle

_NOTHING: Final[tuple[Any, ...]] = (None, [], {}, False)
_DEPTH: Final = 2
"""What was added or removed as a whole is shown in so many levels."""


@dataclass(frozen=True)
class Change:
    """One value that was added (`before` is None), removed (`after` is None) or replaced; both as compact JSON."""

    path: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"+ {self.path}: {self.after}"
        if self.after is None:
            return f"- {self.path}: {self.before}"
        return f"~ {self.path}: {self.before} -> {self.after}"


def changes(before: Bundle | None, after: Bundle) -> list[Change]:
    """From one bundle of a stream to the next, in the order of the files; ids do not count."""
    return list(_compare(_content(before) if before else {}, _content(after), ""))


def _content(bundle: Bundle) -> dict[str, Any]:
    """The content with each schema as a table of its fields' types."""
    tables = {source: {field["name"]: field["type"] for field in schema["fields"]} for source, schema in bundle.schemas.items()}
    return bundle.content() | {"schemas": tables}


def _compare(old: Any, new: Any, path: str, depth: int = 0) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _one(old, new, key, f"{path}.{key}" if path else str(key), depth)
        if list(old) != list(new) and set(old) == set(new):
            yield Change(f"{path} (order)", ", ".join(old), ", ".join(new))
    elif old != new:
        yield Change(path, _text(old), _text(new))


def _one(old: dict[str, Any], new: dict[str, Any], key: str, path: str, depth: int) -> Iterator[Change]:
    if key in old and key in new:
        yield from _compare(old[key], new[key], path, depth + 1)
    elif depth < _DEPTH and isinstance(old.get(key, new.get(key)), dict):
        yield from _compare(old.get(key, {}), new.get(key, {}), path, depth + 1)
    elif key in new and new[key] not in _NOTHING:
        yield Change(path, None, _text(new[key]))
    elif key in old and old[key] not in _NOTHING:
        yield Change(path, _text(old[key]), None)


def _text(value: Any) -> str:
    return json.dumps(_written(value), ensure_ascii=False)


def _written(value: Any) -> Any:
    """A value without the nulls and empty parts that nobody wrote."""
    if isinstance(value, dict):
        return {key: _written(inner) for key, inner in value.items() if inner not in _NOTHING}
    return [_written(inner) for inner in value] if isinstance(value, list) else value
