"""Writes a record with a header whose name is no UTF-8: librdkafka does, its Python client refuses."""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.metadata import files
from typing import Any, Final

_HANDLE: Final = ctypes.c_void_p
_END, _TOPIC, _PARTITION, _VALUE, _KEY, _FLAGS, _HEADERS = 0, 1, 3, 4, 5, 7, 10
"""What follows in the arguments of `rd_kafka_producev` (rd_kafka_vtype_t)."""
_COPY: Final = 2


def write(bootstrap: str, topic: str, value: bytes, key: bytes = b"", name: bytes = b"\xff\xfe") -> None:
    """Append a record to partition 0, acknowledged, with one header of that name."""
    library, told = _librdkafka(), ctypes.create_string_buffer(512)
    config = _HANDLE(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(config, b"bootstrap.servers", bootstrap.encode(), told, ctypes.c_size_t(512))
    client = _HANDLE(library.rd_kafka_new(0, config, told, ctypes.c_size_t(512)))
    headers = _HANDLE(library.rd_kafka_headers_new(ctypes.c_size_t(1)))
    library.rd_kafka_header_add(headers, name, ctypes.c_ssize_t(len(name)), b"x", ctypes.c_ssize_t(1))
    place = (_TOPIC, topic.encode(), _PARTITION, ctypes.c_int32(0))
    content = (_VALUE, value, ctypes.c_size_t(len(value)), _KEY, key, ctypes.c_size_t(len(key)))
    assert library.rd_kafka_producev(client, *place, *content, _FLAGS, _COPY, _HEADERS, headers, _END) == 0
    assert library.rd_kafka_flush(client, 30_000) == 0
    library.rd_kafka_destroy(client)


@cache
def _librdkafka() -> Any:
    """The library that the client's wheel brings."""
    path = next(file for file in files("confluent-kafka") or () if file.name.startswith("librdkafka"))
    library = ctypes.CDLL(str(path.locate()))
    for make in (library.rd_kafka_conf_new, library.rd_kafka_new, library.rd_kafka_headers_new):
        make.restype = _HANDLE
    return library
