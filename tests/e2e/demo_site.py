"""A demonstration that was asked to leave its stack running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidemill.stack.state import State


@dataclass(frozen=True)
class Demo:
    """Its data directory, and the commands that a person gives there."""

    data: Path

    def tidemill(self, *words: str, **environment: str) -> str:
        """What a command prints; raises CalledProcessError where it fails."""
        command = [sys.executable, "-m", "tidemill.cli.main", *words, "--data-dir", str(self.data)]
        done = subprocess.run(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout

    def status(self) -> dict[str, Any]:
        """What runs, and where; a stack that was ended goes on where it stopped."""
        state = State.read(self.data)
        if state is None or not state.runs:
            self.tidemill("up", "--detach")
        found: dict[str, Any] = json.loads(self.tidemill("status", "--output", "json"))
        return found
