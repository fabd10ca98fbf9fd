"""The headers of what outsiders read: the CloudEvents Kafka binding (binary mode), the trace, the cause, the place.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

Headers = list[tuple[str, bytes]]

CAUSED_BY = "tidemill-caused-by"
SEQ = "tidemill-seq"
POSITION = "tidemill-position"
ATTEMPT = "tidemill-attempt"
"""How often a raw record has been redriven from the dead letters."""
ANSWER_TO = "tidemill-answer-to"
"""Who wants to hear what became of a raw record."""
TRACEPARENT = "traceparent"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the headers say; empty or None where they do not."""

    id: str = ""
    source: str = ""
    type: str = ""
    time: int | None = None
    """us since the epoch."""
    traceparent: str | None = None
    caused_by: str | None = None
    seq: int | None = None
    position: int | None = None
    attempt: int = 0


def headers(
    event_id: str,
    source: str,
    type: str,
    time_us: int,
    traceparent: str | None = None,
    caused_by: str | None = None,
    seq: int | None = None,
    position: int | None = None,
) -> Headers:
    """The headers of one record; `time_us` is us since the epoch."""
    optional = (
        (TRACEPARENT, traceparent),
        (CAUSED_BY, caused_by),
        (SEQ, seq),
        (POSITION, position),
    )
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_source", source.encode()),
        ("ce_type", type.encode()),
        ("ce_time", time_text(time_us).encode()),
        *((name, str(value).encode()) for name, value in optional if value is not None),
    ]


def parse(headers: Iterable[tuple[str, bytes | None]] | None) -> Envelope:
    """The envelope of a record's headers; the last of several with one name counts; what cannot be read is left out."""
    found = {
        name: (value or b"").decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}") for name, value in headers or ()
    }
    return Envelope(
        id=found.get("ce_id", ""),
        source=found.get("ce_source", ""),
        type=found.get("ce_type", ""),
        time=_time(found.get("ce_time", "")),
        traceparent=found.get(TRACEPARENT),
        caused_by=found.get(CAUSED_BY),
        seq=_number(found.get(SEQ, "")),
        position=_number(found.get(POSITION, "")),
        attempt=_number(found.get(ATTEMPT, ""), 31) or 0,
    )


def time_text(time_us: int) -> str:
    """RFC 3339 in UTC with microseconds."""
    return (_EPOCH + timedelta(microseconds=time_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _time(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _number(text: str, bits: int = 63) -> int | None:
    """A number of so many bits and a sign; None where the text is none."""
    number = int(text) if len(text) <= 20 and text.isascii() and text.removeprefix("-").isdecimal() else None
    return number if number is not None and -(2**bits) <= number < 2**bits else None
