"""A snapshot is whole or it is not there; two are kept."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from tidemill.bus.snapshot import InputMark, OutputMark, Shelf, Stored, fingerprint


def stored(offset: int) -> Stored:
    inputs = {"log.s": InputMark(offset, offset, 2**64 - 1, fingerprint(b"k", b"v"))}
    arrays = {"sums": np.arange(offset, dtype=np.float64), "meta": np.array([1, 2], np.uint8)}
    return Stored("sha256:fold", "sha256:code", inputs, {"features": OutputMark(offset * 2)}, arrays, {"seq": offset, "text": "ü"})


def test_what_is_put_is_read_back(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "a")
    assert shelf.put(stored(5)) > 0
    (found,) = shelf.whole()
    assert (found.fold, found.code, found.inputs, found.outputs, found.meta) == (
        "sha256:fold",
        "sha256:code",
        stored(5).inputs,
        stored(5).outputs,
        stored(5).meta,
    )
    assert {name: array.tolist() for name, array in found.arrays.items()} == {"sums": [0, 1, 2, 3, 4], "meta": [1, 2]}
    assert found.snapshot.arrays.keys() == {"sums", "meta"}


def test_the_two_that_were_written_last_are_kept_though_useless_ones_are_ahead(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for offset in (700, 900, 10, 20):
        shelf.put(stored(offset))
    assert [found.progress for found in shelf.whole()] == [20, 10]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_damaged_one_is_passed_over_with_a_warning(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf(tmp_path)
    shelf.put(stored(5))
    shelf.put(stored(9))
    newest = max(tmp_path.iterdir())
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes({"cut": data[:-10], "flip": data, "empty": b"", "text": b"no npz"}[damage])
    with caplog.at_level(logging.WARNING):
        assert [found.progress for found in shelf.whole()] == [5]
    assert caplog.records[0].__dict__["reason"] == "damaged"


def test_a_file_that_was_not_finished_is_no_snapshot(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.put(stored(5))
    (tmp_path / "123.part").write_bytes(b"half")
    (tmp_path / "stray.npz").write_bytes(b"half")
    assert [found.progress for found in shelf.whole()] == [5]


def test_objects_are_never_pickled(tmp_path: Path) -> None:
    bad = Stored("f", "c", {}, {}, {"objects": np.array([{}, None])})
    with pytest.raises(ValueError, match="allow_pickle"):
        Shelf(tmp_path).put(bad)
