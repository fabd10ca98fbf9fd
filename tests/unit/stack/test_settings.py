"""What a process is told, and how it is told that it was told nonsense. Each case runs in a process with its own environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tidemill.errors import Refused
from tidemill.settings import Settings

_SHOW = "from tidemill.settings import Settings; print(repr(Settings.load()))"


def shown(folder: Path, file: str = "", **environment: str) -> str:
    """The settings' repr, or the error, of a process in `folder` with this `tidemill.toml` and this environment."""
    (folder / "tidemill.toml").write_text(file)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMILL_")}
    done = subprocess.run(
        [sys.executable, "-c", _SHOW], capture_output=True, text=True, cwd=folder, env=clean | environment, check=False
    )
    return done.stdout + done.stderr


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    said = shown(tmp_path, 'kafka = "a:1"\nlog_level = "DEBUG"', TIDEMILL_KAFKA="b:2")
    assert "kafka='b:2'" in said
    assert "log_level='DEBUG'" in said


def test_an_unknown_name_is_refused_where_it_stands_and_the_nearest_one_named(tmp_path: Path) -> None:
    assert "tidemill.toml: 'kafak' is no setting; did you mean 'kafka'?" in shown(tmp_path, 'kafak = "a:1"')
    said = shown(tmp_path, TIDEMILL_SCHEMA_REGISTRI="x")
    assert "environment: 'TIDEMILL_SCHEMA_REGISTRI' is no setting; did you mean 'TIDEMILL_SCHEMA_REGISTRY'?" in said
    assert "'surfing' is no setting; settings are data_dir, kafka" in shown(tmp_path, "surfing = true")


def test_a_bad_value_is_refused_by_name_and_place(tmp_path: Path) -> None:
    assert "tidemill.toml: trace_sample: Input should be less than or equal to 1" in shown(tmp_path, "trace_sample = 2.0")
    assert "environment: TIDEMILL_HTTP_PORT: Input should be a valid integer" in shown(tmp_path, TIDEMILL_HTTP_PORT="x")
    assert "tidemill.toml" in shown(tmp_path, "this is no toml")
    assert "librdkafka is a table" in shown(tmp_path, 'librdkafka = "x"')
    assert "TIDEMILL_LIBRDKAFKA is a table" in shown(tmp_path, "", TIDEMILL_LIBRDKAFKA="x")
    assert "[librdkafka]: No such configuration property" in shown(tmp_path, '[librdkafka]\n"nosuch.key" = 1')
    assert "[librdkafka]: Invalid value" in shown(tmp_path, '[librdkafka]\n"linger.ms" = "soon"')


def test_names_of_librdkafka_pass_through_from_both_places(tmp_path: Path) -> None:
    said = shown(tmp_path, '[librdkafka]\n"linger.ms" = 3', TIDEMILL_LIBRDKAFKA__SOCKET_TIMEOUT_MS="9000")
    assert "'linger.ms': '3'" in said
    assert "'socket.timeout.ms': '9000'" in said


def test_names_of_opentelemetry_are_not_ours(tmp_path: Path) -> None:
    assert "Settings(" in shown(tmp_path, OTEL_SERVICE_NAME="x", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")


def test_no_secret_is_shown(tmp_path: Path) -> None:
    assert "hidden" not in shown(tmp_path, TIDEMILL_POSTGRES="postgresql://me:hidden@127.0.0.1/db")


def test_the_store_lies_in_the_data_directory_unless_it_is_given(tmp_path: Path) -> None:
    assert Settings(data_dir=tmp_path).store_url == f"file://{tmp_path}/store"
    assert Settings(data_dir=tmp_path, store="memory://s").store_url == "memory://s"


def test_what_code_gives_is_checked_as_what_people_give() -> None:
    with pytest.raises(Refused, match="'kafca' is no setting"):
        Settings.given(kafca="a:1")
