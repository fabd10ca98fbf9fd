"""The content-addressed store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill.errors import Rejected
from tidemill.store import Store, digest_of


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"file://{tmp_path}")


def test_bytes_come_back_by_their_digest(store: Store) -> None:
    digest = store.put(b"trees")
    assert digest == digest_of(b"trees") == store.put(b"trees")
    assert store.get(digest) == b"trees"


def test_a_tree_s_digest_is_that_of_all_its_names_and_bytes(store: Store) -> None:
    files = {"model.ubj": b"\x00\x01", "report.json": b"{}"}
    digest = store.put_tree(files)
    assert store.get_tree(digest) == files
    assert digest == store.put_tree(dict(reversed(files.items())))
    assert digest != store.put_tree({"model.ubj": b"\x00\x01", "report2.json": b"{}"})
    assert store.manifest(digest)["model.ubj"] == digest_of(b"\x00\x01")


def test_changed_bytes_are_not_given_out(store: Store, tmp_path: Path) -> None:
    digest = store.put(b"trees")
    (kept,) = [file for file in tmp_path.rglob("*") if file.is_file()]
    kept.write_bytes(b"other trees")
    with pytest.raises(Rejected, match="digest-mismatch"):
        store.get(digest)


@pytest.mark.parametrize("name", ["", "sha256:..", "sha256:../../etc/passwd", "md5:" + "0" * 64, "sha256:" + "A" * 64])
def test_what_is_no_digest_reaches_no_file(store: Store, name: str) -> None:
    with pytest.raises(Rejected, match="bad-digest"):
        store.get(name)


def test_what_is_not_there_is_said(store: Store) -> None:
    with pytest.raises(Rejected, match="not-in-store"):
        store.get(digest_of(b"never put"))


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"files": 3}', b"\xff"])
def test_bytes_that_are_no_manifest_are_no_tree(store: Store, data: bytes) -> None:
    with pytest.raises(Rejected, match="bad-manifest"):
        store.get_tree(store.put(data))


def test_no_half_file_has_a_digest_s_name(store: Store, tmp_path: Path) -> None:
    store.put(b"x" * 100_000)
    assert not list(tmp_path.rglob("*.part"))
