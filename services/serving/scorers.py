"""Scorers by artifact digest, loaded once. Safe for threads: the loop scores, the sidecar prepares."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Protocol

from tidemill.models.scorer import Scorer


class Store(Protocol):
    """Where artifacts are; what it gives has the digest that was asked for."""

    def get_tree(self, digest: str) -> dict[str, bytes]: ...


class Scorers(Mapping[str, Scorer]):
    """Artifact digest -> scorer."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loaded: dict[str, Scorer] = {}
        self._lock = threading.Lock()

    def load(self, artifact: str) -> Scorer:
        """The artifact's scorer. Transient where the store is away, Rejected where the artifact is none or damaged."""
        with self._lock:
            found = self._loaded.get(artifact)
            if found is None:
                found = self._loaded[artifact] = Scorer.load(self._store.get_tree(artifact))
            return found

    def __getitem__(self, artifact: str) -> Scorer:
        return self._loaded[artifact]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded)

    def __len__(self) -> int:
        return len(self._loaded)
