"""`POST /v1/streams/{stream}/{source}`: one event or several, each with its answer.

202: the log has it (all of them), at the position told. 207: some were taken, some were not; see each answer. Else nothing was
taken: 400 no JSON, 404 no such stream or source, 409 the same id with other content, 413 too large, 422 the event is wrong,
503 not now. Sending an event again is always safe: the log takes it once and tells its first position again.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from difflib import get_close_matches
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from services.ingest import errors
from services.ingest.adapters.answers import Answer
from services.ingest.adapters.door import Busy, Door, Sent
from services.ingest.adapters.json_avro import Misfit
from services.ingest.api import body
from tidemill.errors import Refused, Transient

_CODES = {body.MALFORMED: 400, body.TOO_LARGE: 413, "unknown-stream": 404, "unknown-source": 404, errors.ID_CONFLICT: 409}
_RETRY = {"Retry-After": "1"}

Result = tuple[int, dict[str, Any]]


class _Json(JSONResponse):
    """In ASCII: what a caller sent, and is told of, need not be UTF-8."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return json.dumps(content, separators=(",", ":")).encode()


def router(door: Door) -> APIRouter:
    """The routes, on a door to the raw topics."""
    routes = APIRouter()

    @routes.post("/v1/streams/{stream}/{source}", response_model=None)
    async def post(stream: str, source: str, request: Request) -> JSONResponse:
        try:
            _check(door, stream, source)
            events, several = body.parse(await body.read(request, door.limits.body), door.limits.events)
            results = await _take(door, stream, source, events)
        except Refused as error:
            return _Json(_rejected(error.reason, error.message), _CODES.get(error.reason, 422))
        except Transient as error:
            return _Json(_rejected("not-now", str(error)), 503, _RETRY)
        return _response(results, several)

    return routes


def _check(door: Door, stream: str, source: str) -> None:
    bundle = door.bundle(stream)
    if bundle is None:
        raise Refused("unknown-stream", f"there is no stream {stream!r}; {_known(stream, door.streams)}")
    if source not in bundle.stream.sources:
        raise Refused(
            "unknown-source", f"stream {stream!r} has no source {source!r}; {_known(source, list(bundle.stream.sources))}"
        )


def _known(name: str, names: list[str]) -> str:
    near = get_close_matches(name, names, 1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"known: {', '.join(names) or 'none, apply a spec first'}"


async def _take(door: Door, stream: str, source: str, events: list[Any]) -> list[Result]:
    """Each event's code and answer, in order: the good ones are not kept back by the bad."""
    sent: list[Sent | Result] = []
    for event in events:
        try:
            sent.append(door.send(stream, source, event))
        except Misfit as error:
            sent.append((422, _rejected("wrong-event", str(error)) | {"errors": [asdict(found) for found in error.problems]}))
        except Refused as error:
            sent.append((_CODES.get(error.reason, 422), _rejected(error.reason, error.message)))
        except Busy as error:
            sent.append((503, _rejected("not-now", str(error))))
    until = time.monotonic() + door.limits.answer
    return [one if isinstance(one, tuple) else _result(one.id, await door.answer(one, until - time.monotonic())) for one in sent]


def _result(event_id: str, answer: Answer | None) -> Result:
    if answer is None:
        message = (
            "the raw topic has it, the log does not have it yet (a replay that has not ended holds live events back);"
            " send it again with the same id to hear more"
        )
        return 503, {"status": "unknown", "id": event_id, "reason": "not-yet", "message": message}
    if answer.status == "rejected":
        return _CODES.get(answer.reason, 422), {"id": event_id, **_rejected(answer.reason, answer.message)}
    place = {"partition": answer.partition, "offset": answer.offset} if answer.offset >= 0 else None
    return 202, {"status": answer.status, "id": event_id, "position": place}


def _response(results: list[Result], several: bool) -> JSONResponse:
    codes = {code for code, _ in results}
    code = codes.pop() if len(codes) == 1 else 207 if 202 in codes else 422
    content = {"results": [{"code": one, **answer} for one, answer in results]} if several else results[0][1]
    return _Json(content, code, _RETRY if code == 503 else None)


def _rejected(reason: str, message: str) -> dict[str, Any]:
    return {"status": "rejected", "reason": reason, "message": message}
