"""An HTTP body as JSON values, within bounds."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request

from tidemill.errors import Refused

MALFORMED = "malformed-json"
TOO_LARGE = "too-large"


async def read(request: Request, limit: int) -> bytes:
    """The body; raises Refused `too-large` as soon as more than `limit` bytes are announced or have come."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise Refused(TOO_LARGE, f"a body may have {limit} bytes, this one has {announced}; send fewer events at once")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise Refused(TOO_LARGE, f"a body may have {limit} bytes; send fewer events at once")
    return bytes(body)


def parse(body: bytes, most: int) -> tuple[list[Any], bool]:
    """The events of a body, and whether they came as an array. Raises Refused `malformed-json`, `too-large`."""
    try:
        value = json.loads(body, parse_constant=_constant)
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
