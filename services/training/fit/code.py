"""Which code fitted a model."""

from __future__ import annotations

import hashlib
import importlib.metadata
from functools import cache
from pathlib import Path

import tidemill
from services import training

LOCK = "requirements.lock"


@cache
def code_digest() -> str:
    """`sha256:` of the sorted paths and bytes of the packages that decide an artifact, and of the lock.

    Where no lock file lies beside the packages (an installed image), the installed versions stand for it.
    """
    total = hashlib.sha256()
    for root in (Path(tidemill.__file__).parent, Path(training.__file__).parent):
        for file in sorted(root.rglob("*.py")):
            _add(total, f"{root.name}/{file.relative_to(root).as_posix()}", file.read_bytes())
    _add(total, LOCK, _lock())
    return f"sha256:{total.hexdigest()}"


def _lock() -> bytes:
    beside = Path(training.__file__).resolve().parents[2] / LOCK
    if beside.is_file():
        return beside.read_bytes()
    installed = {f"{found.name}=={found.version}" for found in importlib.metadata.distributions()}
    return "\n".join(sorted(installed)).encode()


def _add(total: hashlib._Hash, name: str, data: bytes) -> None:
    total.update(f"{name}\0{len(data)}\0".encode())
    total.update(data)
