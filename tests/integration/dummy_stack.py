"""A supervisor over outside servers and the dummy service: `dummy_stack.py DATA_DIR`."""

from __future__ import annotations

import sys
from pathlib import Path

from tidemill.settings import Settings
from tidemill.stack.services import Service
from tidemill.stack.supervisor import Stack

if __name__ == "__main__":
    Stack(
        Settings.given(Path(sys.argv[1])),
        [Service("dummy-service", package="tests.integration")],
        lambda text: sys.stderr.write(f"{text}\n"),
    ).run()
