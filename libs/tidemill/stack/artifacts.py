"""The Java parts by their Maven coordinates, each file held to a committed sha256.

`infra/artifacts/<part>.lock` has a line `group:artifact:packaging:classifier:version sha256:<hex>` per file; `python -m
tidemill.stack.artifacts` writes it anew by resolving the coordinates below. Fetching resolves nothing: it takes exactly those files.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from jgo.maven import Artifact, MavenContext, PythonResolver

from tidemill.errors import TidemillError
from tidemill.settings import cache_dir

LOCKS = Path(__file__).resolve().parents[3] / "infra" / "artifacts"
KAFKA = ("org.apache.kafka:kafka_2.13:4.1.0", "org.apache.kafka:kafka-tools:4.1.0")
APICURIO = "io.apicurio:apicurio-registry-app:tar.gz:all:3.3.3"

Tell = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Progress: (file name, size in bytes) -> context manager of a function that is told the bytes that came."""


class DamagedArtifact(TidemillError):
    """A fetched file is not the one that was locked."""


@dataclass(frozen=True)
class Locked:
    """One file: where it is in the Maven world, and what it must be."""

    group: str
    artifact: str
    packaging: str
    classifier: str
    version: str
    sha256: str

    @classmethod
    def parse(cls, line: str) -> Locked:
        """A line of a lock file."""
        coordinate, digest = line.split()
        group, artifact, packaging, classifier, version = coordinate.split(":")
        return cls(group, artifact, packaging, classifier, version, digest.removeprefix("sha256:"))

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.packaging}:{self.classifier}:{self.version} sha256:{self.sha256}"

    def on(self, context: MavenContext) -> Artifact:
        """The same file as jgo names it."""
        component = context.project(self.group, self.artifact).at_version(self.version)
        return component.artifact(classifier=self.classifier, packaging=self.packaging)


def locked(part: str) -> list[Locked]:
    """The files of `kafka` or `apicurio`."""
    return [Locked.parse(line) for line in (LOCKS / f"{part}.lock").read_text().splitlines() if line]


def missing() -> list[Locked]:
    """What has not been fetched yet."""
    return [file for part in ("kafka", "apicurio") for file in locked(part) if not _path(file).exists()]


def fetch(tell: Tell) -> None:
    """Fetch what is missing, several files at a time; a second process waits for the first. Raises DamagedArtifact."""
    with _locked_cache(), ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda file: _fetch(file, tell), missing()))
        shutil.rmtree(cache_dir() / "partial", ignore_errors=True)


def kafka_classpath() -> list[Path]:
    """All jars of the broker and its tools."""
    return [_path(file) for file in locked("kafka")]


def apicurio_home() -> Path:
    """The unpacked registry; unpacked beside its archive at the first call."""
    (file,) = locked("apicurio")
    home = cache_dir() / f"apicurio-{file.version}"
    with _locked_cache():
        if not home.exists():
            _unpack(_path(file), home)
    return home


def _unpack(archive: Path, home: Path) -> None:
    """Through a folder beside it, so that `home` is whole or not there."""
    partial = home.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(archive) as content:
        content.extractall(partial, filter="data")
    partial.rename(home)


def verify(came: Path, file: Locked) -> None:
    """Remove a file that is not the locked one, and raise DamagedArtifact."""
    found = _sha256(came)
    if found != file.sha256:
        came.unlink()
        raise DamagedArtifact(
            f"{came.name}: sha256 {found} instead of the locked {file.sha256}; it was changed on the way and is removed; try again"
        )


def _path(file: Locked) -> Path:
    folder = cache_dir() / "maven" / file.group.replace(".", "/") / file.artifact / file.version
    classifier = f"-{file.classifier}" if file.classifier else ""
    return folder / f"{file.artifact}-{file.version}{classifier}.{file.packaging}"


def _fetch(file: Locked, tell: Tell) -> None:
    """Through a folder of its own, so that the cache never holds half a file."""
    target = _path(file)
    partial = cache_dir() / "partial" / file.sha256
    context = MavenContext(resolver=PythonResolver(progress_callback=tell), repo_cache=partial, timeout=120)
    artifact = file.on(context)
    if artifact.cached_path and artifact.cached_path.exists():
        artifact.cached_path.unlink()
    came = context.resolver.download(artifact)
    assert came is not None
    verify(came, file)
    target.parent.mkdir(parents=True, exist_ok=True)
    came.replace(target)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


@contextmanager
def _locked_cache() -> Iterator[None]:
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def write_locks() -> None:
    """Resolve the coordinates and write both lock files."""
    context = MavenContext(repo_cache=cache_dir() / "resolving", timeout=120)
    wanted = [context.create_dependency(coordinate) for coordinate in KAFKA]
    _, resolved = context.resolver.resolve(wanted)
    files = [*(dependency.artifact for dependency in wanted), *(dependency.artifact for dependency in resolved)]
    _write("kafka", {str(file): file for file in files}.values())
    group, name, packaging, classifier, version = APICURIO.split(":")
    registry = context.project(group, name).at_version(version).artifact(classifier=classifier, packaging=packaging)
    _write("apicurio", [registry])


def _write(part: str, files: object) -> None:
    lines = sorted(str(_lock(file)) for file in files)  # type: ignore[attr-defined]
    (LOCKS / f"{part}.lock").write_text("\n".join(lines) + "\n")


def _lock(file: Artifact) -> Locked:
    return Locked(file.groupId, file.artifactId, file.packaging, file.classifier, file.version, _sha256(file.resolve()))


if __name__ == "__main__":
    write_locks()
