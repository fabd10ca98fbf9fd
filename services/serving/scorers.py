"""Scorers by artifact digest. Safe for threads: the loop scores, the sidecar prepares."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Protocol
from weakref import WeakValueDictionary

from tidemill.models.scorer import Scorer


class Store(Protocol):
    """Where artifacts are; what it gives has the digest that was asked for."""

    def get_tree(self, digest: str) -> dict[str, bytes]: ...


class Scorers:
    """Artifact digest -> scorer, loaded once for all that hold it; one that nobody holds any more is forgotten."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: WeakValueDictionary[str, Scorer] = WeakValueDictionary()
        self._lock = threading.Lock()

    def load(self, artifact: str) -> Scorer:
        """The artifact's scorer. Transient where the store is away, Rejected where the artifact is none or damaged."""
        with self._lock:
            found = self._held.get(artifact)
            if found is None:
                found = self._held[artifact] = Scorer.load(self._store.get_tree(artifact))
            return found

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._held))

    def __len__(self) -> int:
        return len(self._held)
