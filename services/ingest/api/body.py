"""An HTTP body as JSON values, within bounds."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request

from tidemill.errors import Refused

MALFORMED = "malformed-json"
TOO_LARGE = "too-large"

_PATIENCE = 8
"""So many times the limit is taken from a caller before the connection is cut."""


async def read(request: Request, limit: int) -> bytes:
    """The body; raises Refused `too-large` for more than `limit` bytes, of which no more than that is kept.

    A caller who is still sending would not hear the answer, so the rest is taken and dropped, within reason.
    """
    announced = request.headers.get("content-length", "")
    size, body = 0, bytearray()
    if announced.isdecimal() and int(announced) > _PATIENCE * limit:
        raise _too_large(limit)
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            body += chunk
        elif size > _PATIENCE * limit:
            break
    if size > limit:
        raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> Refused:
    return Refused(TOO_LARGE, f"a body may have {limit} bytes; send fewer events at once")


def parse(body: bytes, most: int) -> tuple[list[Any], bool]:
    """The events of a body, and whether they came as an array. Raises Refused `malformed-json`, `too-large`."""
    try:
        value = json.loads(body.decode(), parse_constant=_constant)
    except UnicodeDecodeError as error:
        raise Refused(MALFORMED, f"the body is not UTF-8: {error}") from error
    except json.JSONDecodeError as error:
        raise Refused(MALFORMED, f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise Refused(MALFORMED, str(error)) from error
    if not isinstance(value, list | dict):
        raise Refused(MALFORMED, f"an event is a JSON object, several are an array of objects; this is a {type(value).__name__}")
    events = value if isinstance(value, list) else [value]
    if not events:
        raise Refused(MALFORMED, "the array holds no event")
    if len(events) > most:
        raise Refused(TOO_LARGE, f"a body may hold {most} events, this one holds {len(events)}")
    return events, isinstance(value, list)


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON; leave a number out or write null where it is missing")
