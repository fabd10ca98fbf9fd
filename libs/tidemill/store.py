"""The content-addressed store: bytes too large for a record lie here, and an event carries their digest.

Nobody lists the store; whatever is read was named by an event, and is checked against that name.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

import fsspec

from tidemill.errors import Rejected, Transient

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def digest_of(data: bytes) -> str:
    """`sha256:<hex>`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Store:
    """Bytes by digest below an fsspec URL (`file:///...`, `memory://...`, `s3://...`). Safe for threads and processes."""

    def __init__(self, url: str) -> None:
        self._files, self._root = fsspec.core.url_to_fs(url)

    def put(self, data: bytes) -> str:
        """Keep the bytes and return their digest; Transient where the store is away. Keeping them twice changes nothing."""
        digest = digest_of(data)
        place = self._place(digest)
        try:
            if not self._files.exists(place):
                self._write(place, data)
        except OSError as error:
            raise Transient(f"the store does not take {digest}: {error}") from error
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes of a digest.

        Rejected where it is none (`bad-digest`), nothing is there (`not-in-store`) or other bytes are (`digest-mismatch`);
        Transient where the store is away.
        """
        try:
            data: bytes = self._files.cat_file(self._place(digest))
        except FileNotFoundError:
            raise Rejected("not-in-store", f"the store has nothing of the name {digest}") from None
        except OSError as error:
            raise Transient(f"the store does not give {digest}: {error}") from error
        if digest_of(data) != digest:
            raise Rejected("digest-mismatch", f"what the store has as {digest} is {digest_of(data)}")
        return data

    def put_tree(self, files: Mapping[str, bytes]) -> str:
        """Keep several named files; the digest is that of their manifest, so of all names and bytes."""
        return self.put(manifest_of({name: self.put(data) for name, data in files.items()}))

    def get_tree(self, digest: str) -> dict[str, bytes]:
        """All files of a tree; raises as `get`, and Rejected `bad-manifest`."""
        return {name: self.get(part) for name, part in self.manifest(digest).items()}

    def manifest(self, digest: str) -> dict[str, str]:
        """The files of a tree with their digests; raises as `get_tree`."""
        return _manifest(self.get(digest))

    def _place(self, digest: str) -> str:
        if not _DIGEST.fullmatch(digest):
            raise Rejected("bad-digest", f"{digest[:80]!r} is no digest")
        word = digest.removeprefix("sha256:")
        return f"{self._root}/sha256/{word[:2]}/{word[2:]}"

    def _write(self, place: str, data: bytes) -> None:
        """Under another name first: a process killed in the middle leaves no half file of the right name."""
        part = f"{place}.{uuid.uuid4().hex}.part"
        self._files.makedirs(place.rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(part, data)
        self._files.mv(part, place)


def manifest_of(digests: Mapping[str, str]) -> bytes:
    """The canonical manifest of a tree: names in order, no spaces."""
    return json.dumps({"files": dict(digests)}, sort_keys=True, separators=(",", ":")).encode()


def _manifest(data: bytes) -> dict[str, str]:
    try:
        found: Any = json.loads(data)["files"]
        return {str(name): str(digest) for name, digest in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Rejected("bad-manifest", f"not a tree's manifest: {error}") from error
