"""`tidemill audit verify --file`: an exported chain is judged without any server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tidemill.events.governance import AuditAppended
from tidemill.trust import audit


def made(file: Path, count: int, reason: str = "fine") -> Path:
    links: list[AuditAppended] = []
    for number in range(count):
        links.append(audit.link(links[-1] if links else None, number, "decision-signed", f"p{number}", "e", {"reason": reason}))
    file.write_text("".join(link.model_dump_json() + "\n" for link in links))
    return file


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    return made(tmp_path / "chain.jsonl", 4)


def hashes(chain: Path) -> list[str]:
    return [json.loads(line)["hash"] for line in chain.read_text().splitlines()]


def verify(file: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tidemill.cli.main", "audit", "verify", "--file", str(file), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_whole_chain_holds(chain: Path) -> None:
    done = verify(chain)
    assert (done.returncode, done.stdout) == (0, f"4 links hold, the last one {hashes(chain)[-1]}\n")


@pytest.mark.parametrize("number", range(4))
def test_a_chain_that_has_grown_since_a_hash_was_noted_still_has_it(chain: Path, number: int) -> None:
    noted = hashes(chain)
    done = verify(chain, "--expect", noted[number])
    assert (done.returncode, done.stdout) == (0, f"4 links hold, the last one {noted[-1]}; the expected one is link {number}\n")


@pytest.mark.parametrize(
    ("count", "reason"), [(3, "fine"), (4, "another"), (9, "another")], ids=["cut off", "made anew", "made anew and longer"]
)
def test_a_whole_chain_without_the_noted_hash_is_refused(chain: Path, count: int, reason: str) -> None:
    noted = hashes(chain)[-1]
    other = made(chain, count, reason)
    assert verify(other).returncode == 0, "by itself it holds"
    done = verify(other, "--expect", noted)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"other-chain: no link has the hash {noted}: links were cut off" in done.stderr


def test_a_broken_chain_is_refused_though_it_has_the_noted_hash(chain: Path) -> None:
    noted = hashes(chain)[-1]
    chain.write_text(chain.read_text().replace("fine", "odd", 1))
    done = verify(chain, "--expect", noted)
    assert (done.returncode, "link 0 was changed" in done.stderr) == (1, True)


@pytest.mark.parametrize("noted", ["", "4d2", "g" * 64])
def test_what_is_no_hash_is_not_taken_for_a_missing_one(chain: Path, noted: str) -> None:
    done = verify(chain, "--expect", noted)
    told = " ".join(done.stderr.replace("│", " ").split())  # the box that usage errors are told in
    assert (done.returncode, "64 hexadecimal digits" in told) == (2, True), done.stderr


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
