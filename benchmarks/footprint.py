"""How long the whole stack takes to be ready, and what each of its processes keeps in memory. Aims: 45 s and 2.5 GB for everything.

Memory is the proportional set size (what several processes share is divided among them) of each part with its children. The first
start makes everything anew; the second one goes on in the same data directory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tidemill.stack.services import BY_NAME
from tidemill.stack.state import Running, State

AIM_SECONDS, AIM_MB = 45.0, 2_500.0


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="tidemill-footprint-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL's user passes through
        data_dir = Path(folder) / "data"
        try:
            first = _up(data_dir)
            _down(data_dir)
            again = _up(data_dir)
            report(
                first,
                again,
                resident(state := _state(data_dir)),
                {name: _answers(running) for name, running in state.services.items()},
            )
        finally:
            _down(data_dir)


def report(first: float, again: float, resident: dict[str, float], ready: dict[str, bool]) -> None:
    """The table for people, then one line for programs."""
    total = sum(resident.values())
    for name, megabytes in resident.items():
        print(f"{name:16} {megabytes:7.0f} MB")
    print(f"{'everything':16} {total:7.0f} MB; ready after {first:.1f} s, and {again:.1f} s when started again")
    beside = {"start_seconds": round(first, 1), "restart_seconds": round(again, 1), "resident": _rounded(resident)}
    ratios = {"start_aim": round(AIM_SECONDS / first, 2), "memory_aim": round(AIM_MB / total, 2)}
    if down := [name for name in BY_NAME if not ready.get(name)]:
        sys.exit(f"not ready, or started more than once: {', '.join(down)}")
    said = {"benchmark": "footprint", "unit": "MB resident, everything", "ours": round(total), "ours_beside": beside}
    print(json.dumps(said | {"peers": {}, "ratios": ratios, "checked": True}))


def resident(state: State) -> dict[str, float]:
    """Part -> MB of it and its children; the supervisor's children are the parts."""
    named = {**state.parts, **state.services}
    found = {
        name: sum(map(_megabytes, [process, *process.children(recursive=True)])) for name, process in _processes(named).items()
    }
    return found | {"supervisor": _megabytes(psutil.Process(state.supervisor.pid))}


def _processes(named: dict[str, Running]) -> dict[str, psutil.Process]:
    return {name: process for name, running in named.items() if (process := running.process())}


def _megabytes(process: psutil.Process) -> float:
    return process.memory_full_info().pss / 1e6


def _answers(running: Running) -> bool:
    return running.process() is not None and running.restarts == 0


def _up(data_dir: Path) -> float:
    begun = time.monotonic()
    _tidemill("up", data_dir, "--detach")
    return time.monotonic() - begun


def _down(data_dir: Path) -> None:
    _tidemill("down", data_dir)


def _state(data_dir: Path) -> State:
    state = State.read(data_dir)
    assert state is not None
    return state


def _tidemill(command: str, data_dir: Path, *options: str) -> None:
    words = [sys.executable, "-m", "tidemill.cli.main", command, "--data-dir", str(data_dir), *options]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def _rounded(values: dict[str, float]) -> dict[str, int]:
    return {name: round(value) for name, value in values.items()}


if __name__ == "__main__":
    main()
