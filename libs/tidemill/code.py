"""Which code made something: a digest over what packages say, and the short form of a digest."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path


@cache
def code_digest(*packages: str) -> str:
    """`sha256:...` over the sorted paths and the syntax of the packages' Python files. Raises ModuleNotFoundError.

    Comments, docstrings and layout do not count: what differs only in them computes the same, and rows of both may stand in one dataset.
    """
    digest = hashlib.sha256()
    for package in sorted(packages):
        for name, file in sorted(_files(package)):
            digest.update(f"{name}\0".encode())
            digest.update(hashlib.sha256(syntax(file.read_bytes()).encode()).digest())
    return f"sha256:{digest.hexdigest()}"


def syntax(source: bytes) -> str:
    """What a Python file says, without comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
    return ast.dump(tree)


def mark(digest: str) -> int:
    """The first 8 bytes of a `sha256:...`, little endian: how fixed-width records name it."""
    return int.from_bytes(bytes.fromhex(digest.removeprefix("sha256:"))[:8], "little")


def marked(mark: int) -> str:
    """The beginning of the digest that a mark stands for, 16 hexadecimal digits."""
    return mark.to_bytes(8, "little").hex()


def _is_text(statement: ast.stmt) -> bool:
    """A docstring, of whatever it is."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)


def _files(package: str) -> Iterator[tuple[str, Path]]:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(package)
    origin = Path(found.origin)
    if origin.name != "__init__.py":
        yield package, origin
        return
    for file in origin.parent.rglob("*.py"):
        yield f"{package}/{file.relative_to(origin.parent).as_posix()}", file
