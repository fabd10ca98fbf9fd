"""Where a record says which schema wrote it: before its datum, or in a header; as Confluent's own client writes it."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from confluent_kafka.schema_registry import header_schema_id_serializer
from confluent_kafka.schema_registry.serde import SchemaId
from confluent_kafka.serialization import MessageField, SerializationContext

from tidemill.errors import Rejected
from tidemill.events import wire
from tidemill.events.feed import Progressed
from tidemill.events.schema_registry import Registry

GUID = "6f1d5f6a-52b5-4c59-9d8c-5f1b0f0e7a11"
SAID = Progressed(source="a", until=5, ended=False)


class Answers(BaseHTTPRequestHandler):
    """A registry that knows one schema, also by its GUID."""

    known: ClassVar = {
        f"/schemas/guids/{GUID}/ids": [{"context": ".", "id": 7}],
        "/schemas/ids/7": {"schema": json.dumps(Progressed.SCHEMA)},
    }

    def do_GET(self) -> None:
        found = self.known.get(self.path)
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Tests are silent."""


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Registry(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


def by_guid(guid: str) -> list[tuple[str, bytes]]:
    """The headers that Confluent's own serializer writes."""
    context = SerializationContext("t", MessageField.VALUE, headers=[])
    header_schema_id_serializer(b"", context, SchemaId("AVRO", 7, guid))
    headers: list[tuple[str, bytes]] = context.headers  # type: ignore[assignment]
    return headers


@pytest.mark.parametrize("headers", [by_guid(GUID), [("other", b"x"), (wire.SCHEMA_ID_HEADER, b"\0\0\0\0\7")]], ids=["guid", "id"])
def test_the_header_form_is_read_as_the_prefix_form(registry: Registry, headers: list[tuple[str, bytes]]) -> None:
    head = wire.schema_id_header(headers)
    assert head is not None
    assert wire.prefixed(wire.datum(SAID), head, registry) == wire.frame(7, wire.datum(SAID))
    assert wire.decode(wire.datum(SAID), registry, headers) == wire.decode(wire.frame(7, wire.datum(SAID)), registry) == SAID


@pytest.mark.parametrize("headers", [None, [], [("traceparent", b"00-")]])
def test_without_the_header_the_prefix_counts(registry: Registry, headers: list[tuple[str, bytes]] | None) -> None:
    assert wire.decode(wire.frame(7, wire.datum(SAID)), registry, headers) == SAID


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"", "not-framed"),
        (b"\0\0\0\7", "not-framed"),
        (b"\2" + uuid.UUID(GUID).bytes, "not-framed"),
        (b"\1" + uuid.UUID(int=1).bytes, "unknown-schema"),
    ],
)
def test_a_header_that_names_no_schema_is_refused(registry: Registry, head: bytes, reason: str) -> None:
    with pytest.raises(Rejected) as error:
        wire.decode(wire.frame(7, wire.datum(SAID)), registry, [(wire.SCHEMA_ID_HEADER, head)])
    assert error.value.reason == reason
