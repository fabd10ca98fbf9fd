"""When ingest reads no more of a lane, and what it then waits for."""

from __future__ import annotations

import pytest

from services.ingest.settings import Limits

LIMITS = Limits(ready=10, opened=100, held=1_000)


@pytest.mark.parametrize(
    ("ready", "opened", "held", "full", "unpromised"),
    [
        (10, 100, 1_000, False, False),
        (11, 0, 0, True, False),
        (0, 101, 0, True, True),
        (1, 0, 1_001, True, False),
        (1, 1, 1_001, True, True),
    ],
    ids=["at its limits", "waits for other lanes", "waits for a promise", "large events", "large events without a promise"],
)
def test_a_lane_is_full_beyond_any_of_its_limits(ready: int, opened: int, held: int, full: bool, unpromised: bool) -> None:
    assert LIMITS.full(ready, opened, held) == full
    assert LIMITS.unpromised(opened, held) == unpromised
