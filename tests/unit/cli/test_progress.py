"""The bar of a replay: where it stands, and what it waits for."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from rich.console import Console

from tidemill.cli.progress import progress, teller
from tidemill.feed.replay import Sent
from tidemill.feed.timeline import Lane

DAY = 86_400_000_000
LANE = Lane("asks", np.arange(10) * DAY, cast(Any, None), None, "id", b"")


def test_a_replay_that_goes_on_shows_all_that_was_sent_and_what_it_waits_for() -> None:
    session = SimpleNamespace(timeline=SimpleNamespace(lanes=(LANE,)), begin=4 * DAY)
    with progress(Console(file=io.StringIO())) as bar:
        tell = teller(bar, cast(Any, session))
        (task,) = bar.tasks
        assert (task.completed, task.total) == (4, 10)
        tell(Sent(7 * DAY, {"asks": 3}), cast(Any, SimpleNamespace(idle=True)))
        assert task.completed == 7
        assert task.fields["told"].startswith("        3  08 Jan 1970  ")
        tell(Sent(7 * DAY, {"asks": 3}), cast(Any, SimpleNamespace(idle=False)))
        assert task.fields["told"].endswith("  waits for a decision")
