"""Dead letters of raw records (R11)."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

from services.ingest.model import Dead
from tidemill.bus.consumer import own_headers
from tidemill.bus.fold import Headers
from tidemill.errors import Rejected
from tidemill.events import envelope
from tidemill.events.dead import Record, dead_letter
from tidemill.events.deadletters import DeadLetter

SERVICE = "ingest"


def letter(dead: Dead, stream: str, now: int) -> tuple[DeadLetter, Headers]:
    """The letter of a raw record and its envelope; `now` is wall time, us. Its `origin` is the message as it was read."""
    message = dead.origin
    record = Record(
        f"raw.{stream}.{dead.lane.source}",
        dead.lane.partition,
        dead.offset,
        message.key(),
        message.value(),
        own_headers(message),
    )
    made = dead_letter(record, Rejected(dead.reason, dead.message), SERVICE, _version(), now)
    traceparent = envelope.parse(record.headers).traceparent
    return made, envelope.headers(made.id, SERVICE, DeadLetter.ce_type(), now, traceparent)


@cache
def _version() -> str:
    return version("tidemill")
