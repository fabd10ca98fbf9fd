"""Confluent's framing: one magic byte 0, the schema's id in 4 bytes big-endian, the Avro datum.

What stands before the datum may stand in a header instead, there also as magic byte 1 and the schema's GUID. Both are read; the
prefix is written.
"""

from __future__ import annotations

import importlib
import io
import struct
import uuid
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

import fastavro
import numpy as np
import numpy.typing as npt
from fastavro.read import SchemaResolutionError
from pydantic import ValidationError

from tidemill.errors import Rejected
from tidemill.events.base import Event
from tidemill.events.blobs import Blobs
from tidemill.events.plain import BadSchema, check_schema

if TYPE_CHECKING:
    from tidemill.events.schema_registry import Registry

_BAD_BYTES = (
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    OverflowError,
    MemoryError,
    RecursionError,
    SchemaResolutionError,
)  # all that fastavro was seen to raise on bytes that are not the schema's
SCHEMA_ID_HEADER = "__value_schema_id"
"""https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format"""
_PREFIX = struct.Struct(">BI")
_GUID = struct.Struct(">B16s")
_HEAD = np.dtype([("magic", "u1"), ("id", ">u4")])
"""The prefix."""


def frame(schema_id: int, payload: bytes) -> bytes:
    """The record's value: prefix and datum."""
    return _PREFIX.pack(0, schema_id) + payload


def schema_id(value: bytes) -> int:
    """The id in a value's prefix; raises Rejected `not-framed`."""
    if len(value) < _PREFIX.size or value[0] != 0:
        raise Rejected("not-framed", f"a value of {len(value)} bytes does not begin with the schema prefix")
    return int(_PREFIX.unpack_from(value)[1])


def schema_ids(values: Blobs) -> npt.NDArray[np.int64]:
    """The id in each value's prefix; -1 where there is none."""
    found, sound = values.heads(_HEAD)
    ids = np.full(len(values), -1, np.int64)
    ids[sound] = np.where(found["magic"] == 0, found["id"].astype(np.int64), -1)
    return ids


def prefixed(value: bytes, head: bytes, registry: Registry) -> bytes:
    """The value of a record whose schema id stands in its header `head`, in the form that has it before the datum.

    Raises Rejected (`not-framed`, `unknown-schema`) and Transient.
    """
    if len(head) == _PREFIX.size and head[0] == 0:
        return head + value
    if len(head) == _GUID.size and head[0] == 1:
        return frame(registry.id_of_guid(str(uuid.UUID(bytes=head[1:]))), value)
    raise Rejected("not-framed", f"the header {SCHEMA_ID_HEADER} of {len(head)} bytes holds neither a schema's id nor its GUID")


def schema_id_header(headers: Iterable[tuple[str, bytes | None]] | None) -> bytes | None:
    """The header that holds the value's schema id, if there is one."""
    return next((value for name, value in headers or () if name == SCHEMA_ID_HEADER), None)


def encode(event: Event, registry: Registry) -> bytes:
    """An event's value."""
    return frame(registry.id_of(type(event)), datum(event))


def datum(event: Event) -> bytes:
    """An event's Avro bytes, without the prefix."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parsed(type(event)), event.model_dump())
    return out.getvalue()


def decode(value: bytes, registry: Registry, headers: Iterable[tuple[str, bytes | None]] | None = None) -> Event | dict[str, Any]:
    """The event of a value, as the newest schema known here reads it; a plain dict where it is none of our types.

    Raises Rejected (`not-framed`, `unknown-schema`, `undecodable`) and Transient.
    """
    head = schema_id_header(headers)
    value = value if head is None else prefixed(value, head, registry)
    written = registry.schema(schema_id(value))
    try:
        parsed_as = check_schema(written)  # what is recursive can exhaust the stack, and what has items without bytes the memory
    except BadSchema as error:
        raise Rejected("undecodable", f"its schema cannot be used: {error}") from error
    kind = event_type(f"{written.get('namespace', '')}.{written.get('name', '')}")
    row = decode_datum(value[5:], parsed_as, parsed(kind) if kind else None)
    if kind is None:
        return row
    try:
        return kind.model_validate(row)
    except ValidationError as error:
        raise Rejected("undecodable", f"no {kind.__name__}: {error}") from error


def decode_datum(payload: bytes, written: Any, read_as: Any = None) -> dict[str, Any]:
    """One datum that consumes exactly its bytes; raises Rejected `undecodable`. Schemas are parsed ones."""
    stream = io.BytesIO(payload)
    try:
        row = fastavro.schemaless_reader(stream, written, read_as)
    except _BAD_BYTES as error:
        raise Rejected("undecodable", f"{type(error).__name__}: {error}") from error
    if stream.tell() != len(payload):
        raise Rejected("undecodable", f"{len(payload) - stream.tell()} bytes left over")
    return row  # type: ignore[return-value]


@cache
def event_type(full_name: str) -> type[Event] | None:
    """Our type of a record's full name, or None."""
    namespace, _, name = full_name.rpartition(".")
    root, _, domain = namespace.partition(".")
    if root != "tidemill" or not domain.isidentifier():
        return None
    try:
        found = getattr(importlib.import_module(f"tidemill.events.{domain}"), name, None)
    except ModuleNotFoundError:
        return None
    return found if isinstance(found, type) and issubclass(found, Event) else None


@cache
def parsed(kind: type[Event]) -> Any:
    """The type's schema as fastavro wants it."""
    return _parse(kind.SCHEMA)


def _parse(schema: dict[str, Any]) -> Any:
    return fastavro.parse_schema(schema, named_schemas={})
