"""The pace of a data-plane service."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """How much at once, and how often a state is written."""

    batch: int = 16_000
    """Most records in a step."""
    idle: float = 0.1
    """Seconds to wait for the first record."""
    gather: int = 0
    """Milliseconds that the broker may keep records back so that more come at once: where nobody waits for an answer."""
    snapshot_records: int = 500_000
    snapshot_seconds: float = 20.0
    """A snapshot is due after so many records, or so long after the last one if there were any."""
