"""The command line's root: its table, its exit codes, and that a command loads no other's modules."""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tidemill.bus.health import Health, HttpServer
from tidemill.bus.metrics import SWITCHES_IGNORED
from tidemill.cli.main import COMMANDS
from tidemill.settings import Settings
from tidemill.stack.child import free_port
from tidemill.stack.state import Running, State

HEAVY = ("pandas", "polars", "numba", "sklearn", "xgboost", "faust", "jgo")


def tidemill(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tidemill.cli.main", *words], capture_output=True, text=True, check=False, cwd=cwd)


def test_help_shows_every_command(tmp_path: Path) -> None:
    said = tidemill("--help", cwd=tmp_path)
    assert said.returncode == 0
    assert all(text in said.stdout for text in (*COMMANDS, "--version", "--help"))


def test_a_switch_has_no_double_negation(tmp_path: Path) -> None:
    assert "--no-no" not in tidemill("up", "--help", cwd=tmp_path).stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_table_is_there(command: str) -> None:
    module = importlib.import_module(f"tidemill.cli.{COMMANDS[command][0]}")
    assert hasattr(module, command) or hasattr(module, "app")


def test_usage_is_two_and_failure_is_one(tmp_path: Path) -> None:
    assert tidemill("no-such-command", cwd=tmp_path).returncode == 2
    assert tidemill("up", "--no-such-option", cwd=tmp_path).returncode == 2
    assert tidemill("up", "--ephemeral", "--detach", cwd=tmp_path).returncode == 2
    failed = tidemill("up", "--only", "surfing", cwd=tmp_path)
    assert failed.returncode == 1
    assert "surfing: services are ingest" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize("command", ["fetch", "validate .", "status"])
def test_a_command_that_needs_no_stack_refuses_wrong_settings_too(command: str, tmp_path: Path) -> None:
    (tmp_path / "tidemill.toml").write_text('kafak = "127.0.0.1:9092"\n')
    said = tidemill(*command.split(), "--data-dir", "data", cwd=tmp_path)
    assert (said.returncode, said.stdout) == (1, "")
    assert "did you mean 'kafka'?" in said.stderr


@pytest.mark.parametrize(
    ("words", "pinned_in"),
    [([], "infra/trust"), (["--data-dir", "data"], "its-own"), (["--data-dir", "data", "--trust-dir", "other"], "other")],
)
def test_a_key_is_pinned_where_the_services_of_the_data_directory_look(words: list[str], pinned_in: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    State(supervisor=Running.of(os.getpid()), trust_dir="its-own").write(tmp_path / "data")
    said = tidemill("approvals", "keygen", "ann", "--group", "g", "--out", "private", *words, cwd=tmp_path)
    assert said.returncode == 0
    assert (tmp_path / pinned_in / "g" / "ann.pub").exists()


@pytest.mark.parametrize(
    ("name", "group", "what"), [("ann", "../g", "group"), ("ann", "a/b", "group"), ("../ann", "g", "approver")]
)
def test_a_key_is_made_for_a_name_in_a_group_and_nowhere_else(name: str, group: str, what: str, tmp_path: Path) -> None:
    said = tidemill("approvals", "keygen", name, "--group", group, "--out", "private", "--trust-dir", "trust", cwd=tmp_path)
    assert said.returncode == 1
    assert f"names no {what}: write letters" in said.stderr
    assert list(tmp_path.rglob("*.p*")) == []


NOTHING = {"kafka": None, "schema_registry": None, "postgres": None, "phase": None, "services": {}}


def test_a_stack_that_does_not_run_is_told_in_the_shape_of_one_that_does(tmp_path: Path) -> None:
    (tmp_path / "ended").mkdir()
    ended = Running.of(os.getpid()).model_copy(update={"started": 1.0})
    State(supervisor=ended, kafka="127.0.0.1:1", phase="ready", services={"ingest": ended}).write(tmp_path / "ended")
    for data_dir in ("never", "ended"):
        said = tidemill("status", "--output", "json", "--data-dir", data_dir, cwd=tmp_path)
        assert (said.returncode, json.loads(said.stdout)) == (1, NOTHING)
        assert "`tidemill up` starts one" in said.stderr


def test_a_service_that_has_ended_is_not_asked(tmp_path: Path) -> None:
    ended = Running.of(os.getpid(), "http://127.0.0.1:1").model_copy(update={"started": 1.0})
    State(supervisor=ended, phase="ready", services={"registry": ended}).write(tmp_path)
    said = tidemill("models", "list", "--data-dir", str(tmp_path), cwd=tmp_path)
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.startswith("tidemill: not-running: registry does not run in")


def test_switches_that_do_not_hold_are_told_beside_the_state(tmp_path: Path) -> None:
    """This process is the service."""
    for reason, count in (("old-rollout", 1), ("bad-signature", 2)):
        SWITCHES_IGNORED.labels("rivers", reason).inc(count)
    port = free_port()
    me = Running.of(os.getpid(), f"http://127.0.0.1:{port}")
    State(supervisor=me, phase="ready", services={"serving": me}).write(tmp_path)
    with closing(HttpServer(Health("serving", "waiting", lag=7), Settings(data_dir=tmp_path, http_port=port))):
        text, plain = (tidemill("status", "-o", form, "--data-dir", str(tmp_path), cwd=tmp_path) for form in ("text", "json"))
    said = json.loads(plain.stdout)["services"]["serving"]
    assert (said["state"], said["lag"], said["switches_ignored"]["rivers"]) == (
        "waiting",
        7,
        {"bad-signature": 2, "old-rollout": 1},
    )
    assert "serving ignored switches in the log of rivers that do not hold: 2 bad-signature, 1 old-rollout" in text.stdout


@pytest.mark.parametrize("words", [[], ["--detach"]])
def test_a_second_stack_in_a_data_directory_is_refused(words: list[str], tmp_path: Path) -> None:
    """This process holds the directory as a supervisor does."""
    State(supervisor=Running.of(os.getpid())).write(tmp_path)
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = tidemill("up", "--no-services", "--data-dir", str(tmp_path), *words, cwd=tmp_path)
    assert said.returncode == 1
    assert f"runs-already: a stack runs already in {tmp_path}; `tidemill down` ends it" in said.stderr


def test_a_part_without_a_log_is_told_which_parts_have_one(tmp_path: Path) -> None:
    said = tidemill("logs", "surfing", cwd=tmp_path)
    assert said.returncode == 1
    assert "feature-store" in said.stderr


def test_a_log_is_shown_from_its_end(tmp_path: Path) -> None:
    (tmp_path / "data/logs").mkdir(parents=True)
    (tmp_path / "data/logs/kafka.log").write_text("one\ntwo\nthree\n")
    assert tidemill("logs", "kafka", "-n", "2", "--data-dir", "data", cwd=tmp_path).stdout == "two\nthree\n"


def test_the_stacks_commands_load_nothing_heavy(tmp_path: Path) -> None:
    code = f"import sys; from tidemill.cli import main, stack; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "command", ["apply .", "feed .", "dlq list", "trace x", "audit verify", "models list", "retrain m -r x", "approvals list"]
)
def test_a_command_without_a_stack_says_what_to_start(command: str, tmp_path: Path) -> None:
    said = tidemill(*command.split(), cwd=tmp_path)
    assert said.returncode == 1
    assert "`tidemill up` starts" in said.stderr
    assert "Traceback" not in said.stderr
