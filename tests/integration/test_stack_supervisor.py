"""The supervisor over one dummy service, with the session's servers as outside ones."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import Stack
from tests.waiting import until
from tidemill.stack.state import State

REPOSITORY = Path(__file__).resolve().parents[2]
Start = Callable[..., subprocess.Popen[str]]


def outside(stack: Stack) -> dict[str, str]:
    """The session's servers, as settings."""
    return {
        "TIDEMILL_KAFKA": stack.bootstrap,
        "TIDEMILL_SCHEMA_REGISTRY": stack.registry_url,
        "TIDEMILL_POSTGRES": stack.postgres,
    }


@pytest.fixture
def start(stack, tmp_path: Path) -> Iterator[Start]:  # type: ignore[no-untyped-def]
    """Starts a supervisor in tmp_path; all of them are ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def run(**more: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(REPOSITORY / "tests/integration/dummy_stack.py"), str(tmp_path)]
        process = subprocess.Popen(
            command,
            env={**os.environ, **outside(stack), **more},
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.terminate()
        process.communicate(timeout=15)


def ready(data_dir: Path, supervisor: subprocess.Popen[str]) -> State:
    """The state once this supervisor says that all is ready."""
    found: State = until(
        lambda: (state := State.read(data_dir)) and state.phase == "ready" and state.supervisor.pid == supervisor.pid and state
    )
    return found


def tidemill(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tidemill.cli.main", *words], capture_output=True, text=True, check=False)


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_killed_service_comes_back_and_status_says_how_it_is(start: Start, tmp_path: Path) -> None:
    first = ready(tmp_path, start()).services["dummy-service"]
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: (state := State.read(tmp_path)) and state.services["dummy-service"].pid != first.pid)
    said = until(lambda: status_of_ready(tmp_path))
    assert said["lag"] == 7
    assert said["restarts"] == 1
    assert said["pid"] != first.pid


def status_of_ready(data_dir: Path) -> dict[str, object] | None:
    said: dict[str, object] = json.loads(tidemill("status", "--data-dir", str(data_dir), "-o", "json").stdout)["services"][
        "dummy-service"
    ]
    return said if said["state"] == "ready" else None


def test_ctrl_c_ends_everything_within_ten_seconds_even_a_deaf_service(start: Start, tmp_path: Path) -> None:
    supervisor = start(TIDEMILL_TEST_DEAF="1")
    state = ready(tmp_path, supervisor)
    begun = time.monotonic()
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(15) == 0
    assert time.monotonic() - begun < 10
    assert state.all_living() == []
    assert tidemill("status", "--data-dir", str(tmp_path)).returncode == 1


def test_down_ends_what_a_killed_supervisor_left(start: Start, tmp_path: Path) -> None:
    supervisor = start(TIDEMILL_TEST_DEAF="1")
    (left,) = ready(tmp_path, supervisor).living()
    supervisor.kill()
    supervisor.wait()
    assert not gone(left)
    ended = re.fullmatch(r"ended after ([0-9.]+) s\n", tidemill("down", "--data-dir", str(tmp_path)).stdout)
    assert ended is not None
    assert float(ended[1]) < 10
    assert gone(left)
    assert tidemill("down", "--data-dir", str(tmp_path)).stdout == "nothing runs\n"


def test_a_killed_supervisor_takes_its_services_along(start: Start, tmp_path: Path) -> None:
    supervisor = start()
    (left,) = ready(tmp_path, supervisor).living()
    supervisor.kill()
    until(lambda: gone(left))


def test_the_next_up_ends_what_a_killed_supervisor_left(start: Start, tmp_path: Path) -> None:
    supervisor = start(TIDEMILL_TEST_DEAF="1")
    (left,) = ready(tmp_path, supervisor).living()
    supervisor.kill()
    supervisor.wait()
    ready(tmp_path, start())
    assert gone(left)


def test_the_next_up_trusts_the_same_keys(start: Start, tmp_path: Path) -> None:
    (tmp_path / "trust").mkdir()
    first = start(TIDEMILL_TRUST_DIR=str(tmp_path / "trust"))
    ready(tmp_path, first)
    first.terminate()
    first.wait(15)
    assert ready(tmp_path, start()).trust_dir == str(tmp_path / "trust")


def test_one_data_directory_has_one_stack(start: Start, tmp_path: Path) -> None:
    ready(tmp_path, start())
    second = start()
    said, _ = second.communicate(timeout=30)
    assert second.returncode == 1
    assert "a stack runs already" in said


def test_a_service_that_does_not_start_is_told_with_the_end_of_its_log(start: Start, tmp_path: Path) -> None:
    supervisor = start(TIDEMILL_TEST_BROKEN="1")
    said, _ = supervisor.communicate(timeout=30)
    assert supervisor.returncode == 1
    assert "the tide is out" in said
    state = State.read(tmp_path)
    assert state is not None
    assert state.phase.startswith("failed: dummy-service ended with code 1")
    assert state.all_living() == []


def test_an_ephemeral_stack_leaves_no_data_behind(stack: Stack, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tidemill.cli.main", "up", "--ephemeral", "--no-services"]
    process = subprocess.Popen(
        command, env={**os.environ, **outside(stack)}, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        named = next(line for line in process.stderr if line.startswith("data directory: "))
        data_dir = Path(named.removeprefix("data directory: ").strip())
        assert ready(data_dir, process).services == {}
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert not data_dir.exists()
    assert list(tmp_path.iterdir()) == []
