"""Few records that come one after the other are one step, and one that comes alone does not wait."""

from __future__ import annotations

import time
from typing import Any

from tidemill.bus.consumer import take


class Client:
    """A consumer that has some records, and keeps how long it was asked to wait for more."""

    def __init__(self, *records: str) -> None:
        self.left = list(records)
        self.waited: list[float] = []

    def poll(self, _: float) -> str | None:
        return self.left.pop(0) if self.left else None

    def consume(self, count: int, seconds: float) -> list[str]:
        self.waited.append(seconds)
        found, self.left = self.left[:count], self.left[count:]
        return found


def taken(client: Any, limit: int, begin: float = 0.0) -> list[Any]:
    return take(client, limit, 0.0, begin)


def test_what_comes_when_its_turn_is_there_does_not_wait() -> None:
    client = Client("a", "b", "c")
    assert taken(client, 2, time.monotonic()) == ["a", "b"]
    assert taken(client, 2) == ["c"]
    assert client.waited == [0.0, 0.0]


def test_what_comes_before_its_turn_waits_for_more() -> None:
    client, begin = Client("a", "b"), time.monotonic() + 60
    assert taken(client, 10, begin) == ["a", "b"]
    assert 0 < client.waited[0] <= 60


def test_nothing_waits_for_no_turn() -> None:
    client = Client()
    assert taken(client, 10, time.monotonic() + 60) == []
    assert client.waited == []
