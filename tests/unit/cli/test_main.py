"""What the command line says of a file that it cannot use, and how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["audit", "verify", "--file", "absent"], "tidemill: absent: No such file or directory\n"),
        (["audit", "verify", "--file", "."], "tidemill: .: Is a directory\n"),
        (["audit", "verify", "--file", "bytes"], "tidemill: bad-file: bytes, line 1: "),
        (["up", "--data-dir", "bytes"], "bytes: File exists\n"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(words: list[str], told: str, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\n")
    ended = subprocess.run([sys.executable, "-m", "tidemill.cli.main", *words], cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
