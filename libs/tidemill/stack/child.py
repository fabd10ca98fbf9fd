"""One process of the stack: started with a log file, ended with its supervisor, never left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tidemill.errors import TidemillError

_PR_SET_PDEATHSIG = 1
_TAIL = 4_000
_PORTS = range(15_000, 32_000)


class StartFailed(TidemillError):
    """A part of the stack did not come up; the message holds the end of its log."""


@dataclass
class Child:
    """A process and how to end it. `user` is for root, who may not run PostgreSQL."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: int = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; its output goes to the log's end."""
        libc = ctypes.CDLL(None)

        def die_with_parent() -> None:
            libc.prctl(_PR_SET_PDEATHSIG, self.stop_signal)

        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **self.environment},
                user=self.user,
                group=self.user,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def check(self) -> None:
        """Raise StartFailed when it has ended."""
        if not self.alive:
            code = self.process.returncode if self.process else None
            raise StartFailed(f"{self.name} ended with code {code}. The end of {self.log}:\n{self.tail()}")

    def tail(self) -> str:
        """The end of its log."""
        try:
            return self.log.read_bytes()[-_TAIL:].decode("utf-8", "replace")
        except FileNotFoundError:
            return "(no log)"

    def signal_stop(self) -> None:
        """Ask it to end."""
        if self.process is not None and self.alive:
            self.process.send_signal(self.stop_signal)

    def end(self, grace: float) -> None:
        """Wait up to `grace` seconds for its end; then kill it, and what it started and left behind."""
        if self.process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(grace, 0.0))
        self.kill_group()
        self.process.wait()

    def kill_group(self) -> None:
        """Kill what is left of its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def free_port(preferred: int = 0) -> int:
    """A loopback port that is free now: the preferred one if it is, so that a restarted stack keeps its addresses.

    Else one below the range from which the kernel serves outgoing connections, or one of those could take it before its server does.
    """
    tried = (preferred, *random.sample(_PORTS, 100)) if preferred else random.sample(_PORTS, 100)
    for port in tried:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise StartFailed("no free loopback port")
