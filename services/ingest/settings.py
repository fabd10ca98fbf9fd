"""What bounds ingest. Addresses and folders are every service's: tidemill.settings."""

from __future__ import annotations

from dataclasses import dataclass

from tidemill.bus.keeper import DRAIN


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes or records, times in seconds."""

    event: int = 512 * 1024
    """A larger value is a dead letter `too-large`: with its envelope it must still fit a record of the dead letters."""
    body: int = 8 * 1024 * 1024
    """A larger HTTP body is answered 413, before it is read to its end."""
    events: int = 10_000
    """In one HTTP body."""
    waiting: int = 50_000
    """Events that HTTP callers wait for at the same time; more are answered 503."""
    answer: float = 20.0
    """How long an HTTP caller waits for the log to have its event; then 503, and a retry is safe."""
    batch: int = 4_000
    """Raw records in one step."""
    poll: float = 0.05
    """How long the loop waits for raw records before it looks at control events again."""
    turn: float = 0.012
    """The least between the begins of two steps: what comes meanwhile is one batch, here and in every service behind the log. An event that comes
    alone does not wait (`docs/decisions/few-records-share-a-step.md`).
    """
    ready: int = 50_000
    """Rows of one lane that wait for other lanes; the lane is not read while there are more."""
    opened: int = 500_000
    """Rows of one lane that wait for their feed's promise; the lane is not read while there are more."""
    held: int = 256 * 1024 * 1024
    """Bytes of one lane's rows that wait for either: a few large events may not fill the memory."""
    snapshot_records: int = 100_000
    """Log records between two snapshots."""
    snapshot_seconds: float = 30.0
    """Time after which a moved-on state is put into a snapshot all the same."""
    drain: float = DRAIN
    """What a stopping writer has for its last records."""

    def full(self, ready: int, opened: int, held: int) -> bool:
        """Whether so many rows of a lane (`ready` and `opened`, of `held` bytes) wait that no more of it is read for now."""
        return ready > self.ready or opened > self.opened or held > self.held

    def unpromised(self, opened: int, held: int) -> bool:
        """Whether it is their feed's promise that a full lane's rows wait for."""
        return opened > self.opened or (opened > 0 and held > self.held)
