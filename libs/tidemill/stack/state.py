"""What runs in a data directory: `state.json`, written by the supervisor, read by every command."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
from pydantic import BaseModel, Field

from tidemill.errors import Refused

FILE = "state.json"


class RunsAlready(Refused):
    """The data directory has a stack."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__("runs-already", f"a stack runs already in {data_dir}; `tidemill down` ends it")


class Running(BaseModel):
    """One process. A pid alone may have gone to another process, so its start time is kept too."""

    pid: int
    started: float
    url: str | None = None
    restarts: int = 0
    stopped: bool = False
    """It has ended, and is not started again before somebody looked (R11)."""

    @classmethod
    def of(cls, pid: int, url: str | None = None, restarts: int = 0) -> Running:
        """The process as it is now."""
        return cls(pid=pid, started=psutil.Process(pid).create_time(), url=url, restarts=restarts)

    def process(self) -> psutil.Process | None:
        """The process, if it is still that one."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 0.05 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if same else None

    @property
    def replaced(self) -> bool:
        """Whether the number is another process's now."""
        return self.process() is None and psutil.pid_exists(self.pid)


class State(BaseModel):
    """One stack."""

    supervisor: Running
    phase: str = "starting"
    """`starting`, `ready` or `failed: <why>`."""
    kafka: str = ""
    schema_registry: str = ""
    postgres: str = ""
    """The administrator's DSN."""
    trust_dir: str = ""
    parts: dict[str, Running] = Field(default_factory=dict)
    """Kafka, registry, PostgreSQL."""
    services: dict[str, Running] = Field(default_factory=dict)

    @classmethod
    def read(cls, data_dir: Path) -> State | None:
        """The state last written there, whether or not it still runs."""
        file = data_dir / FILE
        try:
            return cls.model_validate_json(file.read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise Refused(
                "bad-state",
                f"{file} cannot be read; end what may still run of its stack by hand, remove it, and start again: {error}",
            ) from None

    def write(self, data_dir: Path) -> None:
        """Replace the file at once; it holds a password."""
        part = data_dir / f"{FILE}.part"
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            out.write(self.model_dump_json(indent=2))
            out.flush()
            os.fsync(out.fileno())  # else a loss of power could leave an empty file
        part.replace(data_dir / FILE)

    def living(self) -> list[psutil.Process]:
        """Every process that the supervisor started and that is still there: each leads a session of its own, whose members count."""
        started = (*self.services.values(), *self.parts.values())
        sessions = {running.pid for running in started if not running.replaced}
        found = [_process(pid) for pid in psutil.pids() if _session(pid) in sessions]
        return [process for process in found if process is not None]

    def all_living(self) -> list[psutil.Process]:
        """These and the supervisor."""
        supervisor = self.supervisor.process()
        return [*self.living(), *([supervisor] if supervisor else [])]

    @property
    def runs(self) -> bool:
        """Whether the supervisor is there."""
        return self.supervisor.process() is not None


def _process(pid: int) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        return process if process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
