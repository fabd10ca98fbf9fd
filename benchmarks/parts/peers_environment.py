"""The peers' own virtual environment, made once from its hashed lock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def python(root: Path) -> Path:
    """The interpreter of `.venv-peers`; made at the first call."""
    home, lock = root / ".venv-peers", root / "benchmarks" / "peers" / "requirements.lock"
    ready = home / ".ready"
    if not ready.exists() or ready.stat().st_mtime < lock.stat().st_mtime:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        uv = Path(sys.executable).parent / "uv"
        subprocess.run(
            [str(uv), "pip", "install", "-q", "--python", str(home / "bin" / "python"), "--require-hashes", "-r", str(lock)],
            check=True,
        )
        ready.touch()
    return home / "bin" / "python"
