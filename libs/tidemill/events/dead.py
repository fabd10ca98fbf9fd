"""Dead letters (R11): one shape for every record that could not be taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tidemill.errors import Rejected
from tidemill.events.deadletters import DeadHeader, DeadLetter
from tidemill.events.envelope import parse
from tidemill.events.identity import event_id


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it was read, with its place."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


def dead_letter(record: Record, error: Rejected, service: str, version: str, at: int) -> DeadLetter:
    """The letter of a record that `service` (of Tidemill `version`) rejected; `at` is wall time, us.

    Its id follows from the record's place and the service, so a record rejected again after a crash is the same letter.
    """
    place = f"{record.topic}/{record.partition}/{record.offset}"
    return DeadLetter(
        id=event_id(place, "dead-letter", service),
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=[DeadHeader(name=name, value=value or b"") for name, value in record.headers],
        reason=error.reason,
        message=error.message[:2000],
        service=service,
        version=version,
        attempt=parse(record.headers).attempt,
        at=at,
    )
