"""LZ4 frames of independent blocks, the only ones that brokers read (https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md).

cramjam's own compressor of such frames holds Python's lock, so that a fold would stand still while its output is compressed; its compressor
of blocks lets go of it.
"""

from __future__ import annotations

import struct
from typing import Final

import cramjam

_BLOCK: Final = 2**20
_HEAD: Final = bytes.fromhex("04224d18606051")
"""Magic; version 1, independent blocks, no checksums; blocks of at most 1 MB; the header's checksum."""
_PLAIN: Final = 2**31
"""Marks a block that is not compressed."""
_SIZE: Final = struct.Struct("<I")
_END: Final = _SIZE.pack(0)


def frame(data: bytes) -> bytes:
    """The data as one frame."""
    blocks = [_block(data[at : at + _BLOCK]) for at in range(0, len(data), _BLOCK)]
    return b"".join((_HEAD, *blocks, _END))


def _block(data: bytes) -> bytes:
    packed = bytes(cramjam.lz4.compress_block(data, store_size=False))
    if len(packed) < len(data):
        return _SIZE.pack(len(packed)) + packed
    return _SIZE.pack(_PLAIN | len(data)) + data
