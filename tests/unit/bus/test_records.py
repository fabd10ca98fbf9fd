"""Record batches as columns, against aiokafka's own reader and writer of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from tidemill.bus import heads, records
from tidemill.bus.fold import Headers
from tidemill.bus.records import Damaged, following, read
from tidemill.events.blobs import Blobs

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
PRODUCER = (7, 1, 40)

Record = tuple[bytes | None, bytes | None, Headers]
blob = st.binary(max_size=200)
header = st.tuples(st.text(max_size=9), blob)
record = st.tuples(st.none() | blob, st.none() | blob, st.lists(header, max_size=3))
several = st.lists(record, min_size=1, max_size=30)


def written(rows: Sequence[Record], codec: str) -> bytes:
    """Batches as we write them."""
    keys, values = Blobs.of([key for key, _, _ in rows]), Blobs.of([value for _, value, _ in rows])
    return b"".join(
        framed(body.tobytes(), count, codec)
        for count, body in records.bodies(keys, values, heads.of([head for _, _, head in rows]))
    )


def framed(body: bytes, count: int, codec: str) -> bytes:
    return records.framed(records.compress(body, codec), count, codec, PRODUCER)


def theirs(rows: Sequence[Record], codec: str, offset: int = 0, times: Sequence[int] = ()) -> bytes:
    """A batch as aiokafka writes it, with its first record at an offset."""
    builder = DefaultRecordBatchBuilder(2, CODECS.index(codec), 0, -1, -1, -1, 10_000_000)
    for at, (key, value, head) in enumerate(rows):
        builder.append(at, times[at] if times else 0, key, value, head)
    data = bytes(builder.build())
    return offset.to_bytes(8, "big") + data[8:]


def rows_of(found: records.Fetched | None) -> list[Record]:
    assert found is not None
    return list(zip(found.keys.tolist(), found.values.tolist(), map(heads.read, found.heads), strict=True))


@given(several, st.sampled_from(CODECS))
def test_what_is_written_is_what_aiokafka_reads(rows: list[Record], codec: str) -> None:
    found, batches = [], MemoryRecords(written(rows, codec))
    while batches.has_next():
        batch = batches.next_batch()
        assert batch is not None and batch.validate_crc()
        found += [(one.key, one.value, list(one.headers)) for one in batch]
    assert found == rows


@given(st.lists(several, min_size=1, max_size=4), st.sampled_from(CODECS), st.data())
def test_what_aiokafka_writes_is_read_from_any_offset_on(batches: list[list[Record]], codec: str, data: st.DataObject) -> None:
    begins = [sum(map(len, batches[:at])) for at in range(len(batches))]
    answer = b"".join(theirs(rows, codec, begin) for rows, begin in zip(batches, begins, strict=True))
    rows = [row for part in batches for row in part]
    offset = data.draw(st.integers(0, len(rows) - 1))
    found = read(answer, offset)
    assert rows_of(found) == rows[offset:]
    assert found is not None and found.offsets.tolist() == list(range(offset, len(rows)))
    assert following(answer, 0) == (len(rows), len(answer))


@given(several, st.data())
def test_a_batch_that_is_cut_is_left_for_the_next_answer(rows: list[Record], data: st.DataObject) -> None:
    whole, last = theirs(rows, "none"), theirs(rows, "lz4", len(rows))
    answer = whole + last[: data.draw(st.integers(0, len(last) - 1))]
    assert rows_of(read(answer, 0)) == rows
    assert following(answer, 0) == (len(rows), len(whole))


@given(several, st.sampled_from(CODECS), st.data())
def test_damage_is_seen_or_the_batch_is_cut(rows: list[Record], codec: str, data: st.DataObject) -> None:
    answer = bytearray(theirs(rows, codec))
    at = data.draw(st.integers(16, len(answer) - 1))
    answer[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Damaged):
        read(bytes(answer), 0)


def test_a_body_that_is_not_what_its_head_says_is_damage() -> None:
    [(count, body)] = records.bodies(Blobs.of([b"k"]), Blobs.of([b"v"]), heads.none(1))
    for claimed, inside in ((count + 1, body), (count, body[:-1]), (count, body[:2])):
        with pytest.raises(Damaged, match="holds other records"):
            read(framed(inside.tobytes(), claimed, "none"), 0)


def test_the_time_is_the_brokers_or_what_each_record_says() -> None:
    rows: list[Record] = [(None, b"a", []), (None, b"b", []), (None, b"c", [])]
    said = theirs(rows, "none", times=[1_000, 990, 1_005])
    found = read(said, 0)
    assert found is not None and found.times.tolist() == [1_000, 990, 1_005]


@given(st.lists(st.integers(0, 400_000), min_size=1, max_size=12))
def test_a_batch_has_a_million_bytes_or_one_record(sizes: list[int]) -> None:
    values = Blobs.of([bytes(size) for size in sizes])
    parts = list(records.bodies(Blobs.of([None] * len(sizes)), values, heads.none(len(sizes))))
    assert sum(count for count, _ in parts) == len(sizes)
    assert all(count == 1 or len(body) <= 1_000_000 for count, body in parts)


def test_no_records_are_no_batch() -> None:
    assert list(records.bodies(Blobs.of([]), Blobs.of([]), heads.none(0))) == []
    assert read(b"", 5) is None and following(b"", 5) == (5, 0)


def test_a_compacted_batch_may_lack_its_last_records_or_all() -> None:
    rows: list[Record] = [(b"a", b"1", []), (b"b", b"2", [])]
    lacking = compacted(theirs(rows, "none"), last=7)
    assert rows_of(read(lacking, 1)) == rows[1:]
    assert read(lacking, 2) is None and following(lacking, 2) == (8, len(lacking))
    empty = compacted(records.framed(b"", 0, "none", PRODUCER), last=3)
    assert read(empty, 0) is None and following(empty, 0) == (4, len(empty))


def compacted(batch: bytes, last: int) -> bytes:
    """The batch with another last offset than its last record's."""
    body = batch[21:23] + last.to_bytes(4, "big") + batch[27:]
    return batch[:17] + calc_crc32c(body).to_bytes(4, "big") + body


def test_a_header_without_a_value_has_an_empty_one() -> None:
    found = read(theirs([(None, b"v", [("h", None)])], "none"), 0)  # type: ignore[list-item]
    assert rows_of(found) == [(None, b"v", [("h", b"")])]
