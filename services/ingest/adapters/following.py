"""A thread that follows control topics; what is away for now is waited for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from tidemill.bus.control_client import Follower, Heard
from tidemill.errors import Transient

if TYPE_CHECKING:
    from tidemill.events.base import Event
    from tidemill.events.schema_registry import Registry
    from tidemill.settings import Settings

logger = logging.getLogger(__name__)


class Following(threading.Thread):
    """Ends by itself only when something is wrong, which `failure` then tells."""

    def __init__(
        self, name: str, settings: Settings, registry: Registry, kinds: Sequence[type[Event]], start: Literal["begin", "now"]
    ) -> None:
        """`kinds` of events are heard, from `start` on."""
        super().__init__(name=name, daemon=True)
        self.failure: BaseException | None = None
        self.listening = threading.Event()
        """While it is set nothing is missed."""
        self._settings, self._registry, self._kinds, self._start = settings, registry, kinds, start
        self._ending = threading.Event()

    def hear(self, heard: Heard) -> None:
        """Take one event."""
        raise NotImplementedError

    def looked(self, follower: Follower) -> None:
        """After each look at the topics."""

    def run(self) -> None:
        """Until `stop`."""
        try:
            while not self._ending.is_set():
                try:
                    self._follow()
                except Transient as error:
                    self.listening.clear()
                    logger.warning("control topics are away", extra={"reader": self.name, "error": str(error)})
                    self._ending.wait(1)
        except BaseException as error:
            self.failure = error

    def stop(self) -> None:
        """End the thread."""
        self._ending.set()
        self.join(5)

    def _follow(self) -> None:
        with Follower(self._settings, self._kinds, self._start, self._registry) as follower:
            self.listening.set()
            while not self._ending.is_set():
                for heard in follower.poll(0.2):
                    self.hear(heard)
                self.looked(follower)
