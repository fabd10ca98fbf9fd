"""Starts the stack in order, keeps it up, and ends all of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

import psutil

from tidemill.bus.limit import EXIT_STOPPED
from tidemill.bus.patience import Patience, Stopped
from tidemill.errors import Transient
from tidemill.settings import Settings
from tidemill.stack import kafka, outside, postgres, registry, services
from tidemill.stack.child import Child, StartFailed, free_port
from tidemill.stack.contracts import ensure_contracts
from tidemill.stack.services import Service
from tidemill.stack.state import Running, RunsAlready, State

Tell = Callable[[str], object]
SERVICES_END, PARTS_END = 4.5, 8.0
"""Seconds after which services, then servers that have not ended are killed; below the promised 10."""
_SERVICES_TIME_OUT = 120.0
_CONTRACTS_TIME_OUT = 60.0
_ASKED_TO_END = "stopped while starting"
_BACK_OFF, _LONGEST_BACK_OFF, _STEADY = 0.5, 30.0, 60.0


@dataclass
class Watched:
    """A child with what a restart needs to know."""

    child: Child
    url: str | None = None
    restarts: int = 0
    started: float = 0.0
    due: float | None = None
    running: Running | None = None
    """For the state file: as it was started last, also after its end."""

    def start(self) -> None:
        """Start it (again)."""
        self.child.start()
        self.started, self.due = time.monotonic(), None
        self.running = Running.of(self.child.pid, self.url, self.restarts)

    def look(self, tell: Tell) -> bool:
        """Restart a dead child after its back-off, unless it has stopped for good; whether the state file has to be written anew."""
        if self.child.alive or self.running is None or self.running.stopped:
            return False
        now = time.monotonic()
        if self.due is None:
            code = self.child.process.returncode if self.child.process else None
            self.child.kill_group()
            if code == EXIT_STOPPED:
                self.running = self.running.model_copy(update={"stopped": True})
                tell(f"{self.child.name} has stopped until somebody looks (log: {self.child.log})")
                return True
            self._plan(now, code, tell)
        if self.due is None or now < self.due:
            return False
        self.start()
        return True

    def _plan(self, now: float, code: int | None, tell: Tell) -> None:
        self.restarts = 0 if now - self.started > _STEADY else self.restarts
        wait = min(_BACK_OFF * 2**self.restarts, _LONGEST_BACK_OFF)
        self.due, self.restarts = now + wait, self.restarts + 1
        tell(f"{self.child.name} ended with code {code}; again in {wait:.1f} s (log: {self.child.log})")


@dataclass
class Stack:
    """One stack in one data directory. Servers that `settings` names are outside ones and are not started."""

    settings: Settings
    wanted: Sequence[Service]
    tell: Tell
    parts: dict[str, Watched] = field(default_factory=dict)
    services: dict[str, Watched] = field(default_factory=dict)
    admin_dsn: str = ""
    stopping: bool = False

    def run(self) -> None:
        """Start everything, keep it up until SIGTERM, SIGINT or SIGHUP, end everything."""
        self.settings.data_dir.mkdir(parents=True, exist_ok=True)
        with _alone(self.settings.data_dir):
            self._end_orphans()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as below nohup
                    signal.signal(number, self._stop)
            try:
                self._start()
                self._tell_ready()
                self._write("ready")
                while not self.stopping:
                    self._watch()
                    time.sleep(0.1)
            except StartFailed as error:
                if not self.stopping:
                    self._write(f"failed: {error}")
                    raise
            finally:
                self.end()

    def end(self) -> None:
        """End every process of the stack within 10 s."""
        self.stopping = True
        begun = time.monotonic()
        for group, end in ((self.services, SERVICES_END), (self.parts, PARTS_END)):
            for watched in group.values():
                watched.child.signal_stop()
            for watched in group.values():
                watched.child.end(begun + end - time.monotonic())

    def wait(self, timeout: float) -> bool:
        """Whether the stack is told to stop within so many seconds. Looks again and again: a signal's handler may take no lock."""
        until = time.monotonic() + timeout
        while not self.stopping and time.monotonic() < until:
            time.sleep(0.05)
        return self.stopping

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def _start(self) -> None:
        before = State.read(self.settings.data_dir)
        self._trust_as(before)
        server = self._start_postgres(before)
        broker = self._start_kafka(before)
        server()
        schemas = self._start_registry(before)
        broker()
        schemas()
        self._make_contracts()
        self._start_services(before)

    def _trust_as(self, before: State | None) -> None:
        """Go on with the pinned keys of the last time, unless others are given: what they signed is in the data."""
        if before and Path(before.trust_dir or "-").is_dir() and "trust_dir" not in self.settings.model_fields_set:
            self.settings = self.settings.model_copy(update={"trust_dir": Path(before.trust_dir)})

    def _start_postgres(self, before: State | None) -> Callable[[], None]:
        given = self.settings.postgres.get_secret_value()
        if given:
            self.admin_dsn = given
            return self._outside("PostgreSQL", "postgres", partial(postgres.answers, given))
        port = _port(before.postgres if before else "")
        role = postgres.administrator(self.settings.data_dir, port)
        self.admin_dsn = role.dsn
        child = postgres.child(self.settings.data_dir.resolve(), self._log("postgres"), port)
        return self._part(child, lambda: postgres.ready(child, role), 60)

    def _start_kafka(self, before: State | None) -> Callable[[], None]:
        if address := self.settings.kafka:
            return self._outside(f"Kafka at {address}", "kafka", partial(kafka.answers, address, self.settings.librdkafka))
        port = _port(before.kafka if before else "")
        self.settings = self.settings.model_copy(update={"kafka": f"127.0.0.1:{port}"})
        child = kafka.child(self.settings.data_dir.resolve(), self._log("kafka"), port, free_port())
        return self._part(child, lambda: kafka.ready(child, self.settings.kafka), 90)

    def _start_registry(self, before: State | None) -> Callable[[], None]:
        if address := self.settings.schema_registry:
            return self._outside(f"the schema registry at {address}", "schema_registry", partial(registry.answers, address))
        port = _port(before.schema_registry if before else "")
        database = postgres.ensure_role(self.admin_dsn, self.settings.data_dir, "apicurio")
        self.settings = self.settings.model_copy(update={"schema_registry": registry.url(port)})
        child = registry.child(self._log("schema-registry"), port, database)
        return self._part(child, lambda: registry.ready(child, port), 120)

    def _outside(self, name: str, setting: str, answers: Callable[[], bool]) -> Callable[[], None]:
        """What is returned waits until an outside server answers."""
        return partial(outside.await_answer, name, setting, answers, lambda: self.stopping)

    def _part(self, child: Child, ready: Callable[[], bool], time_out: float) -> Callable[[], None]:
        """Start a server; what is returned waits until it is ready."""
        watched = self.parts[child.name] = Watched(child)
        watched.start()
        self.tell(f"{child.name} starts (at most {time_out:.0f} s)")
        self._write(f"starting: {child.name}")
        return lambda: self._wait([(watched, ready)], time_out)

    def _make_contracts(self) -> None:
        """Topics and schemas. A server that has only just come up may leave a call unanswered: it is asked again."""
        patiently = Patience(self, lambda why, _: self.tell(f"topics and schemas wait: {why}"), 0.5, 5.0, _CONTRACTS_TIME_OUT)
        try:
            patiently(lambda: ensure_contracts(self.settings))
        except Stopped:
            raise StartFailed(_ASKED_TO_END) from None
        except Transient as error:
            raise StartFailed(f"topics and schemas could not be made within {_CONTRACTS_TIME_OUT:.0f} s: {error}") from error

    def _start_services(self, before: State | None) -> None:
        for service in self.wanted:
            old = before.services.get(service.name) if before else None
            port = _port(old.url or "" if old else "")
            dsn = self._dsn(service)
            child = services.child(service, self.settings, dsn, port, self._log(service.name))
            watched = self.services[service.name] = Watched(child, f"http://127.0.0.1:{port}")
            watched.start()
        self._write("starting: services")
        if self.services:
            self.tell(f"services start: {', '.join(self.services)} (at most {_SERVICES_TIME_OUT:.0f} s)")
        self._wait([(watched, partial(_service_ready, watched)) for watched in self.services.values()], _SERVICES_TIME_OUT)

    def _dsn(self, service: Service) -> str | None:
        if not service.has_database:
            return None
        return postgres.ensure_role(self.admin_dsn, self.settings.data_dir, service.role).dsn

    def _wait(self, waiting: list[tuple[Watched, Callable[[], bool]]], time_out: float) -> None:
        """Until each is ready, all within their own time-out; tells each when it is."""
        while waiting:
            if self.stopping:
                raise StartFailed(_ASKED_TO_END)
            waiting = [(watched, ready) for watched, ready in waiting if not self._is_ready(watched, ready, time_out)]
            time.sleep(0.1 if waiting else 0)

    def _is_ready(self, watched: Watched, ready: Callable[[], bool], time_out: float) -> bool:
        took = time.monotonic() - watched.started
        if ready():
            self.tell(f"{watched.child.name} ready after {took:.1f} s")
            return True
        if took > time_out:
            raise StartFailed(f"{watched.child.name} was not ready after {time_out:.0f} s. Its log's end:\n{watched.child.tail()}")
        return False

    def _watch(self) -> None:
        changed = [watched.look(self.tell) for watched in (*self.parts.values(), *self.services.values())]
        if any(changed):
            self._write("ready")

    def _end_orphans(self) -> None:
        """End what a supervisor that was killed left behind."""
        before = State.read(self.settings.data_dir)
        if before is not None and (left := before.living()):
            self.tell(f"ending {len(left)} processes that an earlier stack left behind")
            end_processes(before)

    def _tell_ready(self) -> None:
        self.tell(f"ready: kafka {self.settings.kafka}, schema registry {self.settings.schema_registry}")
        for name, watched in self.services.items():
            self.tell(f"  {name:14} {watched.url}")

    def _log(self, name: str) -> Path:
        return self.settings.data_dir.resolve() / "logs" / f"{name}.log"

    def _write(self, phase: str) -> None:
        State(
            supervisor=Running.of(os.getpid()),
            phase=phase,
            kafka=self.settings.kafka,
            schema_registry=self.settings.schema_registry,
            postgres=self.admin_dsn,
            trust_dir=str(self.settings.trust_dir.resolve()),
            parts=_known(self.parts),
            services=_known(self.services),
        ).write(self.settings.data_dir)


def _known(watched: Mapping[str, Watched]) -> dict[str, Running]:
    return {name: one.running for name, one in watched.items() if one.running is not None}


def end_processes(state: State, grace: float = 8.5) -> None:
    """End every process of a stack: the supervisor, which ends the others, or they themselves; what is left is killed."""
    supervisor = state.supervisor.process()
    _signal([supervisor] if supervisor else state.living(), signal.SIGTERM)
    if not _gone(state, grace):
        _signal(state.all_living(), signal.SIGKILL)
        _gone(state, 1.0)


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _gone(state: State, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while state.all_living():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@contextlib.contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """Hold the data directory for one supervisor, or raise RunsAlready; the lock goes with its process, however it ends."""
    with (data_dir / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunsAlready(data_dir) from None
        yield


def _service_ready(watched: Watched) -> bool:
    watched.child.check()
    try:
        with urllib.request.urlopen(f"{watched.url}/health/ready", timeout=2) as answer:  # noqa: S310 - our own loopback address
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _port(address: str) -> int:
    """A free port, the one of an earlier address if it is free."""
    return free_port(_port_of(address)) if address else free_port()


def _port_of(address: str) -> int:
    """The port in `host:port`, a URL or a DSN; 0 where there is none."""
    host = address.rpartition("://")[2].rpartition("@")[2].split("/")[0]
    return int(host.rpartition(":")[2] or 0) if ":" in host else 0
