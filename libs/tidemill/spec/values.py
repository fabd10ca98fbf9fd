"""The small words of a spec: durations, dates, and phrases such as `4 in 30d`, each parsed into numbers and written back."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
"""Microseconds."""
LONGEST: Final = 36_500 * DAY
"""A hundred years: far more than any policy needs, and so little that no sum of times overflows."""

_UNITS = {"us": 1, "ms": 1000, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_DURATION = re.compile(r"(\d{1,9})\s*(us|ms|s|m|h|d|w)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_duration(text: object) -> int:
    """`5m`, `24h`, `7d`, `0s` -> microseconds; raises ValueError."""
    if isinstance(text, str) and (match := _DURATION.fullmatch(text.strip())):
        if (us := int(match[1]) * _UNITS[match[2]]) > LONGEST:
            raise ValueError(f"{text!r} is longer than a spec may name: write {format_duration(LONGEST)} or less")
        return us
    raise ValueError(f"{text!r} is no duration: write a whole number and one of {', '.join(_UNITS)}, as in 5m or 24h")


def format_duration(us: int) -> str:
    """The name of a duration, which is also a window's: 24h, but 7d; 90m, but 2h."""
    if us and us % DAY == 0 and us > DAY:
        return f"{us // DAY}d"
    for unit in ("h", "m", "s", "ms"):
        if us % _UNITS[unit] == 0 and us:
            return f"{us // _UNITS[unit]}{unit}"
    return f"{us}us" if us else "0s"


def parse_moment(text: object) -> int:
    """`2013-01-01` or `2013-01-01T05:00:00Z` (UTC where it names no zone) -> us since the epoch; raises ValueError."""
    if isinstance(text, date):
        text = text.isoformat()
    try:
        moment = datetime.fromisoformat(str(text))
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:  # the latter where UTC is in another millennium than the zone
        raise ValueError(f"{text!r} is no date: write 2013-01-01 or 2013-01-01T05:00:00Z") from error
    return (moment - _EPOCH) // timedelta(microseconds=1)


def format_moment(us: int) -> str:
    """RFC 3339, UTC."""
    return (_EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")


def _lasting(us: int) -> int:
    if us < SECOND:
        raise ValueError(f"{format_duration(us)} is too short: write 1s or more")
    return us


Duration = Annotated[int, BeforeValidator(parse_duration), PlainSerializer(format_duration, when_used="json")]
"""Microseconds."""
LastingDuration = Annotated[Duration, AfterValidator(_lasting)]
"""Microseconds, a second at least."""
Moment = Annotated[int, BeforeValidator(parse_moment), PlainSerializer(format_moment, when_used="json")]
"""Microseconds since the epoch."""


def _delay_or_column(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no delay and no column: write a delay, as in 10s, or a column's name")
    return parse_duration(value) if _DURATION.fullmatch(value) else value


def _as_text(value: Any) -> Any:
    return format_duration(value) if isinstance(value, int) else value


DelayOrColumn = Annotated[int | str, BeforeValidator(_delay_or_column), PlainSerializer(_as_text, when_used="json")]
"""A delay (int, us) or a column's name."""


def _listed(value: object) -> object:
    return value if isinstance(value, list) else [value]


Durations = Annotated[list[Duration], BeforeValidator(_listed), Field(min_length=1)]
"""One duration or several."""
Names = Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)]
"""One name or several."""

TopicWord = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=60)]
"""Part of a topic's name: lower case, digits, hyphens."""
FieldWord = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$", max_length=60)]
"""Part of a vector field's name: snake_case, single underscores."""
