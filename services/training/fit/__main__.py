"""The runner's child: `python -m services.training.fit`.

Reads {"request", "ends", "settings"} as the first line of stdin and says on stdout, a JSON object a line: {"dataset": ...}, then {"completed": ...} or
{"failed": {"reason", "detail"}}. It ends when its stdin does: a runner that dies takes its child along.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any, TextIO

from services.training.errors import RunFailed
from tidemill.errors import Transient
from tidemill.events.training import DatasetBuilt, PartitionEnd, RunRequested
from tidemill.settings import Settings
from tidemill.telemetry import setup_logs

AGAIN = 75
"""Exit code (EX_TEMPFAIL): something was away."""


def main(told: TextIO, tell: TextIO) -> int:
    """Do the run that is told; the exit code."""
    task = json.loads(told.readline())
    settings = Settings.model_validate(task["settings"])
    setup_logs("training-fit", settings.log_level)
    threading.Thread(target=_end_with, args=(told,), daemon=True).start()
    os.nice(5)  # the stream goes first
    from services.training.fit.run import execute  # after the thread: scikit-learn takes a second to import

    def said(name: str, value: dict[str, Any]) -> None:
        print(json.dumps({name: value}), file=tell, flush=True)

    def built(dataset: DatasetBuilt) -> None:
        said("dataset", dataset.model_dump())

    request, ends = RunRequested.model_validate(task["request"]), [PartitionEnd.model_validate(end) for end in task["ends"]]
    try:
        said("completed", execute(request, ends, settings, built).model_dump())
    except RunFailed as error:
        said("failed", {"reason": error.reason, "detail": error.detail})
    except Transient as error:
        print(f"away: {error}", file=sys.stderr)  # noqa: T201
        return AGAIN
    return 0


def _end_with(told: TextIO) -> None:
    told.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.stdin, sys.stdout))
