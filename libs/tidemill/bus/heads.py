"""Records' headers as Kafka writes them: their number, then each one's name and value after their lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka.record.util import decode_varint, encode_varint

from tidemill.bus import record_kernels as kernels
from tidemill.events.blobs import I8, Blobs
from tidemill.events.envelope import Headers


def read(head: bytes) -> Headers:
    """Names and values of a record's headers; no value is an empty one. Raises UnicodeDecodeError where a name is no UTF-8."""
    if not head:
        return []
    count, at = decode_varint(head, 0)
    found: Headers = []
    for _ in range(count):
        name, at = _bytes(head, at)
        value, at = _bytes(head, at)
        found.append((name.decode(), value))
    return found


def write(headers: Headers) -> bytes:
    """`read` the other way."""
    out = bytearray(_varint(len(headers)))
    for name, value in headers:
        for field in (name.encode(), value):
            out += _varint(len(field)) + field
    return bytes(out)


def none(count: int) -> Blobs:
    """So many records without headers."""
    return Blobs.same(b"", count)


def of(headers: Sequence[Headers]) -> Blobs:
    """The headers of each record."""
    return Blobs.of([write(head) for head in headers])


def columns(headers: Mapping[str, Blobs]) -> Blobs:
    """The headers of records that all have the same ones, by their names; no value may be missing."""
    names = Blobs.of([_varint(len(name.encode())) + name.encode() for name in headers])
    values, count = Blobs.concat(list(headers.values())), len(next(iter(headers.values())))
    shape = len(names), count
    data, lengths = kernels.heads(
        names.data, names.begins, names.lengths, values.data, values.begins.reshape(shape), values.lengths.reshape(shape)
    )
    return Blobs.tight(data, lengths)


def counts(heads: Blobs) -> I8:
    """How many headers each record has: int64[records]."""
    found: I8 = kernels.counts(heads.data, heads.begins, heads.lengths)
    return found


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    """What stands there after its length, and the next place."""
    size, at = decode_varint(data, at)
    return data[at : at + max(0, size)], at + max(0, size)


def _varint(value: int) -> bytes:
    out = bytearray()
    encode_varint(value, out.append)
    return bytes(out)
