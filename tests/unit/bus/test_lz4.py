"""Frames that every reader of LZ4 takes."""

from __future__ import annotations

import os

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.bus.lz4 import frame


@given(st.binary(max_size=3_000))
def test_a_frame_holds_its_data(data: bytes) -> None:
    assert bytes(cramjam.lz4.decompress(frame(data))) == data


@pytest.mark.parametrize("size", [2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20 + 7])
def test_more_than_a_block_is_several(size: int) -> None:
    for data in (os.urandom(size), b"tidemill" * (size // 8)):
        assert bytes(cramjam.lz4.decompress(frame(data))) == data


def test_what_repeats_is_short() -> None:
    assert len(frame(b"tidemill" * 10_000)) < 1_000
