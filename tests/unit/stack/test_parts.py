"""The stack's parts, each alone: processes, ports, state, locked files, the table of services."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.waiting import until
from tidemill.bus.limit import EXIT_STOPPED
from tidemill.errors import Refused
from tidemill.settings import Settings
from tidemill.stack import artifacts, services
from tidemill.stack.child import Child, StartFailed, free_port
from tidemill.stack.state import Running, State
from tidemill.stack.supervisor import Stack, Watched

REPOSITORY = Path(__file__).resolve().parents[3]


def python(tmp_path: Path, code: str) -> Child:
    return Child("it", [sys.executable, "-c", code], tmp_path / "it.log")


def test_a_child_that_will_not_end_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    child = python(
        tmp_path,
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True)\n"
        "time.sleep(600)",
    )
    child.start()
    until(lambda: child.tail().endswith("\n"))
    grandchild = psutil.Process(int(child.tail()))
    child.signal_stop()
    child.end(0.2)
    assert not child.alive
    until(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)


def test_what_a_child_said_last_is_in_the_error(tmp_path: Path) -> None:
    child = python(tmp_path, "import sys; sys.exit('out of tide')")
    child.start()
    child.end(20)
    with pytest.raises(StartFailed, match=r"it ended with code 1(.|\n)*out of tide"):
        child.check()


def test_one_that_lives_but_is_not_ready_in_time_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    child = python(tmp_path, "import time; print('low tide', flush=True); time.sleep(600)")
    stack, watched = Stack(Settings(data_dir=tmp_path), [], lambda _: None), Watched(child)
    watched.start()
    try:
        until(lambda: child.tail() == "low tide\n")
        with pytest.raises(StartFailed, match=r"it was not ready after 0 s. Its log's end:\nlow tide"):
            stack._wait([(watched, lambda: False)], 0.05)
        assert child.alive
        stack._wait([(watched, lambda: True)], 0.05)  # what is ready was in time
    finally:
        child.end(0)


def test_a_dead_child_is_started_again_after_longer_and_longer_waits(tmp_path: Path) -> None:
    said: list[str] = []
    watched = Watched(python(tmp_path, "raise SystemExit(3)"))
    watched.start()
    for restarts in (1, 2, 3):
        until(lambda: watched.look(said.append))
        assert watched.restarts == restarts
    watched.child.end(20)
    assert [line.split("; ")[1].split(" (")[0] for line in said] == ["again in 0.5 s", "again in 1.0 s", "again in 2.0 s"]
    assert all("code 3" in line for line in said)


def test_one_that_asks_for_somebody_to_look_is_not_started_again(tmp_path: Path) -> None:
    said: list[str] = []
    watched = Watched(python(tmp_path, f"raise SystemExit({EXIT_STOPPED})"))
    watched.start()
    until(lambda: watched.look(said.append))
    assert not watched.look(said.append)
    assert watched.running is not None
    assert watched.running.stopped
    assert [line.partition(" (")[0] for line in said] == ["it has stopped until somebody looks"]


def test_one_that_waits_for_its_next_start_stays_in_the_state_file(tmp_path: Path) -> None:
    stack = Stack(Settings(data_dir=tmp_path), [], lambda _: None)
    stack.services = {name: Watched(python(tmp_path, "raise SystemExit(3)")) for name in ("a", "b")}
    for watched in stack.services.values():
        watched.start()
        watched.child.end(20)
    stack._watch()  # both wait
    stack._write("ready")
    state = State.read(tmp_path)
    assert state is not None
    assert list(state.services) == ["a", "b"]


def test_a_state_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "state.json").touch()
    with pytest.raises(Refused, match=r"state\.json cannot be read; .*remove it"):
        State.read(tmp_path)


def test_a_port_is_free_and_the_preferred_one_where_that_is_free() -> None:
    port = free_port()
    assert free_port(port) == port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert free_port(port) != port


def test_a_process_is_known_by_its_number_and_its_start() -> None:
    running = Running.of(os.getpid())
    assert running.process() is not None
    assert running.model_copy(update={"started": running.started - 100}).process() is None


def test_what_a_dead_process_left_in_its_session_is_found() -> None:
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as leader:
        assert leader.stdout is not None
        left = int(leader.stdout.readline())
        state = State(supervisor=Running.of(os.getpid()), parts={"leader": Running.of(leader.pid)})
        leader.kill()
    assert [process.pid for process in state.living()] == [left]
    os.kill(left, signal.SIGKILL)
    until(lambda: state.living() == [])


def test_the_state_file_is_the_owners_alone_and_reads_back(tmp_path: Path) -> None:
    state = State(supervisor=Running.of(os.getpid()), kafka="127.0.0.1:1")
    state.write(tmp_path)
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600
    assert State.read(tmp_path) == state
    assert State.read(tmp_path / "nowhere") is None


def test_a_file_that_is_not_the_locked_one_is_refused_and_removed(tmp_path: Path) -> None:
    (locked,) = artifacts.locked("apicurio")
    came = tmp_path / "came"
    came.write_bytes(b"something else")
    with pytest.raises(artifacts.DamagedArtifact, match=f"instead of the locked {locked.sha256}"):
        artifacts.verify(came, locked)
    assert not came.exists()


def test_the_locked_file_is_taken(tmp_path: Path) -> None:
    came = tmp_path / "came"
    came.write_bytes(b"the very one")
    artifacts.verify(came, artifacts.Locked("g", "a", "jar", "", "1", hashlib.sha256(b"the very one").hexdigest()))
    assert came.exists()


def test_every_locked_file_has_a_digest() -> None:
    files = [*artifacts.locked("kafka"), *artifacts.locked("apicurio")]
    assert all(len(file.sha256) == 64 for file in files)
    assert len({(file.group, file.artifact, file.classifier) for file in files}) == len(files)
    assert all(artifacts.Locked.parse(str(file)) == file for file in files)


def test_a_service_is_told_everything_by_its_environment(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, kafka="127.0.0.1:1", schema_registry="http://127.0.0.1:2", librdkafka={"linger.ms": "3"})
    environment = services.environment(settings, "postgresql://db", 4242)
    ask = "from tidemill.settings import Settings; s = Settings.load(); print(s.kafka, s.http_port, s.librdkafka, s.store_url, s.postgres.get_secret_value())"
    done = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, env={**os.environ, **environment}, check=True
    )
    assert done.stdout.split("\n")[0] == f"127.0.0.1:1 4242 {{'linger.ms': '3'}} file://{tmp_path}/store postgresql://db"


def test_every_service_in_the_table_is_a_package_and_every_package_is_in_the_table() -> None:
    packages = {path.parent.name for path in (REPOSITORY / "services").glob("*/__main__.py")}
    assert {service.module.removeprefix("services.") for service in services.SERVICES} == packages
