"""Identities are the same everywhere, alone and in a batch."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.calls import calls_of
from tidemill.events import identity
from tidemill.events.blobs import Blobs


@pytest.mark.parametrize(("text", "fnv"), [("", 0xCBF29CE484222325), ("a", 0xAF63DC4C8601EC8C), ("foobar", 0x85944171F73967E8)])
def test_a_hash_is_fnv_1a_with_murmurs_finaliser(text: str, fnv: int) -> None:
    """The first step's figures are the test vectors of the FNV authors."""
    mask = (1 << 64) - 1
    state = fnv ^ (fnv >> 33)
    state = state * 0xFF51AFD7ED558CCD & mask
    state ^= state >> 33
    state = state * 0xC4CEB9FE1A85EC53 & mask
    assert identity.hash64(text.encode()) == state ^ (state >> 33)


@given(st.lists(st.none() | st.text(st.characters(codec="utf-8"))))
def test_a_batch_of_texts_is_hashed_as_each_alone(items: list[str | None]) -> None:
    alone = [0 if item is None else identity.hash64(item.encode()) for item in items]
    assert identity.hash64_many(Blobs.of_texts(items)).tolist() == alone
    assert identity.hash64_column(pl.Series(items, dtype=pl.String)).tolist() == alone


@given(st.lists(st.none() | st.binary()))
def test_a_batch_of_bytes_is_hashed_as_each_alone(items: list[bytes | None]) -> None:
    alone = [0 if item is None else identity.hash64(item) for item in items]
    assert identity.hash64_many(Blobs.of(items)).tolist() == alone


def test_numbers_are_hashed_by_their_decimal_text() -> None:
    hashes = identity.hash64_column(pl.Series([12, None, -3]))
    assert hashes.tolist() == [identity.hash64(b"12"), 0, identity.hash64(b"-3")]


def test_a_compound_key_is_the_hash_of_its_parts_bytes() -> None:
    left, right = identity.hash64_many(Blobs.of([b"EWR", b"JFK"])), identity.hash64_many(Blobs.of([b"UA", None]))
    both = identity.hash64_compound([left, right])
    assert both[0] == identity.hash64(left[:1].astype("<u8").tobytes() + right[:1].astype("<u8").tobytes())
    assert both[1] == identity.hash64(left[1:].astype("<u8").tobytes() + bytes(8))


def test_control_events_have_stable_ids() -> None:
    first = identity.event_id("cause", "training.run-requested.v1", "late-arrival")
    assert first == identity.event_id("cause", "training.run-requested.v1", "late-arrival")
    others = {
        identity.event_id("cause", "training.run-requested.v1", "late-arrival", 1),
        identity.event_id("causet", "raining", "x"),
    }
    assert first not in others
    assert len(first) == 36


def test_the_share_of_sampled_events_is_as_asked() -> None:
    hashes = identity.hash64_many(Blobs.of([b"flight-%d" % i for i in range(20_000)]))
    assert identity.sampled(hashes, 0.25).mean() == pytest.approx(0.25, abs=0.02)
    assert not identity.sampled(hashes, 0.0).any()
    assert identity.sampled(hashes, 1.0).all()


def test_traces_and_spans_follow_from_the_event_and_its_place() -> None:
    trace = identity.trace_id("flights", "departures", "f1")
    assert trace & ((1 << 64) - 1) == identity.hash64(b"f1")
    assert trace >> 64 == identity.hash64(b"flights/departures")
    assert identity.span_id(trace, "log", 0, 7) != identity.span_id(trace, "vector", 0, 7)


def test_a_batch_is_hashed_without_a_python_call_per_item() -> None:
    items: list[str | None] = ["x"] * 1000
    hashes = identity.hash64_many(Blobs.of_texts(items))
    assert calls_of(lambda: identity.hash64_many(Blobs.of_texts(items))) < 50
    assert hashes.dtype == np.uint64
