"""What is away is waited for: by growing pauses, until the end or until time is up."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tidemill.bus.patience import Patience, Stopped
from tidemill.errors import Rejected, Transient


class Clock:
    """Time that passes in waits alone, and an end that comes at a given second of it."""

    def __init__(self, end: float = 1e9) -> None:
        self.now, self.end = 0.0, end
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, timeout: float) -> bool:
        """As `threading.Event.wait`."""
        self.waits.append(timeout)
        self.now = min(self.now + timeout, self.end)
        return self.now >= self.end


def away(times: int) -> Callable[[], str]:
    """An action that succeeds after so many failures, each with its number."""
    left = iter(range(times))

    def action() -> str:
        for number in left:
            raise Transient(f"away {number}")
        return "done"

    return action


def patience(clock: Clock, told: list[tuple[str, float]] | None = None, limit: float = 1e9) -> Patience:
    said = [] if told is None else told
    return Patience(clock, lambda why, seconds: said.append((why, seconds)), 0.5, 2.0, limit, clock=clock)


def test_what_is_there_is_not_waited_for() -> None:
    clock = Clock()
    assert patience(clock)(away(0)) == "done"
    assert clock.waits == []


def test_each_wait_is_told_and_twice_the_last_up_to_the_longest() -> None:
    clock, told = Clock(), list[tuple[str, float]]()
    assert patience(clock, told)(away(4)) == "done"
    assert told == [("away 0", 0.5), ("away 1", 1.0), ("away 2", 2.0), ("away 3", 2.0)]
    assert clock.waits == [0.5, 1.0, 2.0, 2.0]


def test_the_next_action_is_waited_for_anew() -> None:
    clock = Clock()
    patiently = patience(clock)
    assert [patiently(away(2)), patiently(away(1))] == ["done", "done"]
    assert clock.waits == [0.5, 1.0, 0.5]


def test_the_end_comes_in_the_middle_of_a_wait() -> None:
    clock = Clock(end=1.0)
    with pytest.raises(Stopped):
        patience(clock)(away(10))
    assert clock.waits == [0.5, 1.0]


def test_when_time_is_up_the_error_is_the_callers() -> None:
    clock, told = Clock(), list[tuple[str, float]]()
    with pytest.raises(Transient, match="away 3"):
        patience(clock, told, limit=3.0)(away(10))
    assert [why for why, _ in told] == ["away 0", "away 1", "away 2"]


def test_only_what_is_away_is_waited_for() -> None:
    clock = Clock()

    def refuse() -> None:
        raise Rejected("bad", "no wait mends it")

    with pytest.raises(Rejected):
        patience(clock)(refuse)
    assert clock.waits == []


def test_other_errors_may_count_as_away() -> None:
    clock, left = Clock(), iter([ConnectionError("gone")])

    def action() -> str:
        for error in left:
            raise error
        return "done"

    assert Patience(clock, lambda *_: None, 0.5, 2.0, away=(Transient, ConnectionError))(action) == "done"
    assert clock.waits == [0.5]
