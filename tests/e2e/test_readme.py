"""What the README tells people to type works."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.e2e.demo_site import Demo
from tidemill.bus.consumer import read_to_end
from tidemill.cli.main import app
from tidemill.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
TYPED = [line.partition("#")[0].strip() for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
CALL = """
import itertools, json, sys
status, count = json.load(sys.stdin), int(sys.argv[1])
for key, prediction in itertools.islice(predictions(status["kafka"], status["schema_registry"], group=sys.argv[2]), count):
    print(json.dumps([key, prediction["status"]]))
assert not {name.partition(".")[0] for name in sys.modules} & {"tidemill", "services"}
"""
"""What somebody adds to the README's function."""


def test_each_block_is_run_here() -> None:
    assert {language for language, _ in BLOCKS} == {"", "sh", "python"}
    assert [text for language, text in BLOCKS if not language and "─▶" not in text] == [], "only the drawing is not run"


def test_the_function_that_reads_predictions_reads_them_all(demo: Demo, tmp_path: Path) -> None:
    (snippet,) = [text for language, text in BLOCKS if language == "python"]
    program = tmp_path / "app.py"
    program.write_text(snippet + CALL)
    status = json.dumps(demo.status())
    messages = [one for batch in read_to_end(Settings.load(demo.data), "predictions.flights") for one in batch]
    command = [sys.executable, "-I", str(program), str(len(messages)), f"readme-{uuid.uuid4()}"]
    done = subprocess.run(command, input=status, stdout=subprocess.PIPE, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [key for key, _ in found] == [(one.key() or b"").decode() for one in messages]
    assert {said for _, said in found} == {"no_model", "scored"}


@pytest.mark.parametrize("line", TYPED)
def test_a_line_for_the_shell_works(line: str) -> None:
    """Of `make demo` and `make test` only that there is something to do: they are not for a test."""
    words = shlex.split(line)
    if words[0] == "make":
        done = subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout
    else:
        program = Path(sys.executable).parent / Path(words[0]).name
        subprocess.run([program, *words[1:]], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_the_options_of_the_demonstration_are_known() -> None:
    (sentence,) = re.findall(r"^`make demo ARGS=.*?\n\n", README, re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"--[a-z-]+", sentence))
    assert len(named) >= 4
    assert all(option in helped("demo") for option in named)


def commands() -> list[tuple[str, ...]]:
    """`tidemill models list`, `show` in the table is (models, list) and (models, show)."""
    found = list[tuple[str, ...]]()
    for cell in re.findall(r"^\| (`tidemill [^|]*`) \|", README, re.MULTILINE):
        first, *others = re.findall(r"`([^`]+)`", cell)
        words = tuple(word for word in first.split()[1:] if word.islower())
        found += [words, *((*words[:-1], other) for other in others)]
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_of_the_table_exists(words: tuple[str, ...]) -> None:
    assert f" {' '.join(words)} [OPTIONS]" in " ".join(helped(*words).split())


def helped(*words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("status", "feature-store"),
        ("models list", "late-arrival"),
        ("models show late-arrival", "sha256:"),
        ("models at 50000", "late-arrival"),
        ("approvals list --state all", "late-arrival"),
        ("audit verify", "links hold"),
        ("dlq list", "dead letters"),
        ("logs ingest", "ingest"),
    ],
)
def test_a_command_of_the_table_answers_about_a_demonstration(demo: Demo, line: str, shown: str) -> None:
    demo.status()
    assert shown in demo.tidemill(*line.split())
