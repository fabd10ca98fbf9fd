"""What tests ask of the broker, and what they tell it."""

from __future__ import annotations

from contextlib import closing
from typing import Final

from tidemill.bus.consumer import reader, watermarks
from tidemill.settings import Settings

SHORT_SESSION: Final = {"session.timeout.ms": "6000"}
"""How long it waits for a killed member of a group: the least that it takes."""


def ends(settings: Settings, topic: str) -> dict[int, tuple[int, int]]:
    """By partition, the offsets of the first record and behind the last."""
    with closing(reader(settings)) as consumer:
        return watermarks(consumer, topic)
