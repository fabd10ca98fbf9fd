"""A small client of the schema registry (Confluent's HTTP interface).

confluent-kafka's own client takes 0.4 s and 30 MB to import, in each of seven services; this needs a handful of calls.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException, RemoteDisconnected
from typing import Any

from tidemill.errors import Refused, Rejected, Transient
from tidemill.events.base import Event
from tidemill.events.topics import compatibility_of

_TYPE = "application/vnd.schemaregistry.v1+json"
_TOLD = 2000
"""Bytes of an error's answer that people are told."""
_BUSY = (408, 409, 423, 429)  # 409 on a registration is judged by its own code, below


class UnknownSchema(Rejected):
    """The registry answers, and has no schema of this id or GUID."""

    def __init__(self, schema_id: int | str) -> None:
        super().__init__("unknown-schema", f"the registry has no schema with id {schema_id}")


class Registry:
    """Schemas by id and ids by schema, remembered for ever: the registry never changes either. Safe for threads."""

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        """`url` is the root of the Confluent interface; `timeout` (seconds) bounds each call."""
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"no URL of a schema registry: {url!r}")
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._schemas: dict[int, dict[str, Any]] = {}
        self._ids: dict[str, int] = {}
        self._guids: dict[str, int] = {}
        self._lock = threading.RLock()

    def schema(self, schema_id: int) -> dict[str, Any]:
        """The schema of an id; raises UnknownSchema where there is none, Transient where the registry is away."""
        with self._lock:
            if schema_id not in self._schemas:
                answer = self._call("GET", f"/schemas/ids/{schema_id}")
                if answer is None or answer.get("schemaType", "AVRO") != "AVRO":
                    raise UnknownSchema(schema_id)
                self._schemas[schema_id] = _record(_parsed(schema_id, answer["schema"]))
            return self._schemas[schema_id]

    def id_of_guid(self, guid: str) -> int:
        """The id of a schema by its GUID; raises UnknownSchema also where the registry knows no GUIDs, and Transient."""
        with self._lock:
            if guid not in self._guids:
                answer = self._call("GET", f"/schemas/guids/{guid}/ids")
                if not answer:
                    raise UnknownSchema(guid)
                self._guids[guid] = int(answer[0]["id"])
            return self._guids[guid]

    def register(self, subject: str, schema: dict[str, Any], compatibility: str | None = None) -> int:
        """The id of the schema as (perhaps new) version of the subject.

        Raises Refused `incompatible-schema` where the subject's rule forbids it, Transient where the registry is away.
        """
        key = f"{subject} {json.dumps(schema, sort_keys=True)}"
        with self._lock:
            if key not in self._ids:
                self._ids[key] = self._find(subject, schema) or self._add(subject, schema, compatibility)
            return self._ids[key]

    def id_of(self, event_type: type[Event]) -> int:
        """The id of one of our own types, registered under its full name."""
        name = event_type.full_name()
        return self.register(name, event_type.SCHEMA, compatibility_of(name))

    def compatible(self, subject: str, schema: dict[str, Any]) -> list[str]:
        """Why the schema may not follow the subject's versions; empty when it may, or when there is no such subject."""
        path = f"/compatibility/subjects/{_quote(subject)}/versions?verbose=true"
        answer = self._call("POST", path, _body(schema))
        if answer is None or answer["is_compatible"]:
            return []
        return [str(message) for message in answer.get("messages", ())] or ["incompatible with an earlier version"]

    def subjects(self) -> list[str]:
        """All subjects."""
        return list(self._call("GET", "/subjects") or ())

    def _find(self, subject: str, schema: dict[str, Any]) -> int | None:
        answer = self._call("POST", f"/subjects/{_quote(subject)}", _body(schema))
        return int(answer["id"]) if answer else None

    def _add(self, subject: str, schema: dict[str, Any], compatibility: str | None) -> int:
        if reasons := self.compatible(subject, schema):
            raise Refused("incompatible-schema", f"{subject}: {'; '.join(reasons)}")
        answer = self._call("POST", f"/subjects/{_quote(subject)}/versions", _body(schema))
        if answer is None:
            raise Refused("no-subject", f"the registry will not take a schema for {subject}")
        if compatibility:
            self._call("PUT", f"/config/{_quote(subject)}", {"compatibility": compatibility})
        return int(answer["id"])

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer's JSON, or None for 404."""
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Accept": f"{_TYPE}, application/json"} | ({"Content-Type": _TYPE} if data else {})
        request = urllib.request.Request(self._url + path, data=data, method=method, headers=headers)  # noqa: S310
        try:
            code, answer = self._answer(request)
            return json.loads(answer or b"null") if code < 400 else _judge(code, answer, path)
        except (OSError, HTTPException, ValueError) as error:
            raise Transient(f"the schema registry at {self._url} does not answer: {error!r}") from error

    def _answer(self, request: urllib.request.Request) -> tuple[int, bytes]:
        """The answer's code and body. A server that hangs up instead is asked once more: every call here may be said twice."""
        try:
            return self._once(request)
        except RemoteDisconnected:
            return self._once(request)

    def _once(self, request: urllib.request.Request) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:  # noqa: S310
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:  # its body may stay away, too
                return error.code, error.read()


def _judge(code: int, answer: bytes, path: str) -> None:
    if code == 404 or (code == 409 and path.startswith("/config/")):
        return  # nothing there; or another process has just set the same rule
    why = f"the schema registry answered {code} to {path}: {answer[:_TOLD].decode(errors='replace')}"
    if (code in _BUSY and "/versions" not in path) or code >= 500:
        raise Transient(why)
    raise Refused("incompatible-schema" if code == 409 else "bad-schema", why)


def _parsed(schema_id: int, text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:  # nested so deeply that nothing here could make sense of it
        raise UnknownSchema(schema_id) from None


def _record(schema: Any) -> dict[str, Any]:
    return schema if isinstance(schema, dict) else {"type": schema}


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"schema": json.dumps(schema), "schemaType": "AVRO"}


def _quote(subject: str) -> str:
    return urllib.parse.quote(subject, safe="")
