"""The rules that code and schemas name by number are written down."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
NAMING = ("*.py", "*.avsc", "*.toml", "docs/decisions/*.md")


def named() -> set[str]:
    listed = subprocess.run(["git", "ls-files", "-z", *NAMING], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    files = (REPOSITORY / name for name in listed.stdout.split("\0") if name)
    bracketed = {
        inner for file in files if file.is_file() for inner in re.findall(r"\((R\d+(?:(?:, |-)R\d+)*)\)", file.read_text())
    }
    return {rule for inner in bracketed for rule in re.findall(r"R\d+", inner)}


def test_every_rule_that_is_named_is_written_down_once() -> None:
    written = re.findall(r"^- \*\*(R\d+) ", (REPOSITORY / "docs" / "rules.md").read_text(), re.MULTILINE)
    assert written == [f"R{number}" for number in range(1, len(written) + 1)]
    assert named()
    assert named() <= set(written)
