"""The order in which control events of several topics are read."""

from __future__ import annotations

from tidemill.bus.control_client import Heard, in_order
from tidemill.events.envelope import Envelope
from tidemill.events.training import RetrainRequested


def heard(topic: str, offset: int, at: int, said: int | None) -> Heard:
    event = RetrainRequested(stream="s", model="m", requester="ann", reason="")
    return Heard(event, Envelope(id=f"{topic}{offset}", time=said), topic, 0, offset, at)


def ids(found: list[Heard]) -> list[str]:
    return [one.envelope.id for one in found]


def test_events_of_one_millisecond_come_in_the_order_of_saying() -> None:
    said = [heard("a", 0, 1_000, 10), heard("a", 1, 1_000, 30), heard("b", 0, 1_000, 20), heard("b", 1, 2_000, 5)]
    assert ids(in_order(said)) == ["a0", "b0", "a1", "b1"]


def test_one_partition_keeps_its_order_whatever_its_speakers_clocks_say() -> None:
    said = [heard("a", 0, 1_000, 90), heard("a", 1, 1_000, None), heard("b", 0, 1_000, 50), heard("b", 1, 1_000, 95)]
    found = ids(in_order(said))
    assert [one for one in found if one[0] == "a"] == ["a0", "a1"]
    assert found.index("b0") < found.index("a0")
