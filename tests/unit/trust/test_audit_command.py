"""`tidemill audit verify --file`: an exported chain is judged without any server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tidemill.events.governance import AuditAppended
from tidemill.trust import audit


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    links: list[AuditAppended] = []
    for number in range(4):
        links.append(audit.link(links[-1] if links else None, number, "decision-signed", f"p{number}", "e", {"reason": "fine"}))
    file = tmp_path / "chain.jsonl"
    file.write_text("".join(link.model_dump_json() + "\n" for link in links))
    return file


def verify(file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tidemill.cli.main", "audit", "verify", "--file", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_whole_chain_holds(chain: Path) -> None:
    last = json.loads(chain.read_text().splitlines()[-1])["hash"]
    done = verify(chain)
    assert (done.returncode, done.stdout) == (0, f"4 links hold, the last one {last}\n")


@pytest.mark.parametrize(
    ("tamper", "told"),
    [
        (lambda lines: [*lines[:2], lines[2].replace("fine", "odd"), lines[3]], "link 2 was changed"),
        (lambda lines: [lines[0], *lines[2:]], "link 1 is missing"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "link 0 is missing"),
        (lambda lines: [*lines[:3], "{}"], "line 4"),
    ],
)
def test_a_chain_that_was_touched_names_its_first_broken_link(chain: Path, tamper, told: str) -> None:  # type: ignore[no-untyped-def]
    chain.write_text("\n".join(tamper(chain.read_text().splitlines())) + "\n")
    done = verify(chain)
    assert (done.returncode, told in done.stderr) == (1, True), done.stderr
