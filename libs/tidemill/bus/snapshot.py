"""A worker's state on disk: one npz file, whole or not there, named by what made it and by its own digest.

    <data_dir>/snapshots/<service>/<stream>/<partition>/<progress>.<fold>.<sha256>.npz

`progress` is the sum of the inputs' offsets, `fold` the beginning of the fold's digest, `sha256` that of the file's bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tidemill.bus.fold import Snapshot
from tidemill.bus.metrics import IGNORED, SNAPSHOT

logger = logging.getLogger(__name__)

KEPT: Final = 2
_META: Final = "meta"
_BAD_FILE: Final = (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True)
class InputMark:
    """Where a snapshot stands in an input: the next offset, number and writer, and the record before that, by its fingerprint."""

    offset: int
    seq: int
    writer: int
    newest: str


@dataclass(frozen=True)
class OutputMark:
    """What a state has said in an output: the next number, and for a shared topic the id of the newest event."""

    seq: int
    newest: str = ""


@dataclass(frozen=True)
class Stored:
    """A state with its place among its inputs and outputs."""

    fold: str
    """The fold's digest of the state."""
    code: str
    """The digest of the fold's code alone."""
    inputs: dict[str, InputMark]
    outputs: dict[str, OutputMark]
    arrays: dict[str, npt.NDArray[Any]] = field(default_factory=dict, repr=False)
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def snapshot(self) -> Snapshot:
        """The fold's part."""
        return Snapshot(self.arrays, self.meta)

    @property
    def progress(self) -> int:
        """Orders the snapshots of one worker."""
        return sum(mark.offset for mark in self.inputs.values())


class Shelf:
    """The snapshots of one worker."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, stored: Stored) -> int:
        """Write one and drop all but the newest two; returns its bytes. It is there after this even when the power fails."""
        with SNAPSHOT.time():
            self._folder.mkdir(parents=True, exist_ok=True)
            part = self._folder / f"{os.getpid()}.part"
            size, digest = _write(part, stored)
            put = self._folder / f"{stored.progress:015d}.{stored.fold.removeprefix('sha256:')[:12]}.{digest}.npz"
            part.replace(put)
            _sync(self._folder)
        others = [path for path in self._newest_first() if path != put]
        for old in others[KEPT - 1 :]:
            old.unlink(missing_ok=True)
        return size

    def whole(self) -> Iterator[Stored]:
        """The undamaged ones, newest first; a damaged one is passed over with a warning."""
        for path in self._newest_first():
            try:
                yield _read(path)
            except _BAD_FILE as error:
                IGNORED.labels("damaged").inc()
                logger.warning("snapshot ignored", extra={"reason": "damaged", "path": str(path), "error": str(error)})

    def _newest_first(self) -> list[Path]:
        """As they were written: one of an earlier code or log may be ahead of all that is of any use."""
        paths = self._folder.glob("*.npz")
        return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)


def shelf(data_dir: Path, service: str, stream: str, partition: int) -> Shelf:
    """The snapshots of a service's worker."""
    return Shelf(data_dir / "snapshots" / service / stream / str(partition))


def fingerprint(key: bytes | None, value: bytes | None) -> str:
    """Tells one record from another."""
    return hashlib.blake2b((value or b"") + b"\0" + (key or b""), digest_size=12).hexdigest()


def _write(path: Path, stored: Stored) -> tuple[int, str]:
    arrays: dict[str, Any] = {f"a.{name}": array for name, array in stored.arrays.items()}
    with path.open("w+b") as out:
        np.savez(out, allow_pickle=False, **{_META: np.frombuffer(_head(stored), np.uint8)}, **arrays)
        out.flush()
        os.fsync(out.fileno())
        out.seek(0)
        return os.fstat(out.fileno()).st_size, hashlib.file_digest(out, "sha256").hexdigest()


def _head(stored: Stored) -> bytes:
    head = {
        "fold": stored.fold,
        "code": stored.code,
        "inputs": {topic: asdict(mark) for topic, mark in stored.inputs.items()},
        "outputs": {name: asdict(mark) for name, mark in stored.outputs.items()},
        "meta": stored.meta,
    }
    return json.dumps(head).encode()


def _read(path: Path) -> Stored:
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != path.name.split(".")[2]:
        raise ValueError("its bytes are not those of its name")
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        arrays = {name.removeprefix("a."): found[name] for name in found.files if name != _META}
        head = json.loads(found[_META].tobytes())
    return Stored(
        head["fold"],
        head["code"],
        {topic: InputMark(**mark) for topic, mark in head["inputs"].items()},
        {name: OutputMark(**mark) for name, mark in head["outputs"].items()},
        arrays,
        head["meta"],
    )


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
