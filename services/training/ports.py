"""What training's handlers need of the world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.training.model import History, Window
from tidemill.bus.control import Meta
from tidemill.events.training import RunRequested
from tidemill.spec import Bundle


class Specs(Protocol):
    """The newest spec of each stream."""

    def get(self, stream: str) -> Bundle | None:
        """The spec, or None before the first."""

    def put(self, stream: str, content: str) -> None:
        """Keep the newest."""


class Windows(Protocol):
    """The newest closed window of each model in each shard."""

    def newest(self, stream: str, model: str) -> Sequence[Window]:
        """One per shard that has closed any, the one with the latest end first."""

    def put(self, window: Window) -> None:
        """Keep a window, where it is its shard's newest; the first one's start stays known."""


class Runs(Protocol):
    """All runs and refusals."""

    def history(self, stream: str, model: str) -> History:
        """What was decided about a model."""

    def request(self, run: RunRequested, traceparent: str | None) -> None:
        """Open a run."""

    def decline(self, stream: str, model: str, cause_id: str) -> None:
        """Remember that it was said."""

    def close(self, run: str, state: str) -> None:
        """The run `completed` or `failed`."""


@dataclass(frozen=True)
class Ports:
    """All of them, on one transaction."""

    specs: Specs
    windows: Windows
    runs: Runs
    meta: Meta
