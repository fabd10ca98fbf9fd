"""What a control service tells about itself: health, lag, counters."""

from __future__ import annotations

import logging
import threading
from typing import Self

from psycopg import OperationalError
from psycopg_pool import ConnectionPool

from tidemill.bus import metrics
from tidemill.bus.control import journal
from tidemill.bus.control.places import Places
from tidemill.bus.control.service import ControlService
from tidemill.bus.health import Health, HttpServer, open_door
from tidemill.errors import Transient
from tidemill.settings import Settings

logger = logging.getLogger(__name__)

_EVERY = 2.0
"""Seconds between two looks at the lag."""


class Observed:
    """The engine's Watch; a context manager around the service's life."""

    def __init__(self, service: ControlService, settings: Settings, pool: ConnectionPool) -> None:
        self.health = Health(service.name)
        self._service, self._settings, self._pool = service, settings, pool
        self._places: Places | None = None
        self._door: HttpServer | None = None
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        routers = [self._service.http(self._pool)] if self._service.http else []
        self._door = open_door(self.health, self._settings, routers)
        threading.Thread(target=self._look, name="lag", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._door:
            self._door.close()

    def ready(self, places: Places) -> None:
        """The service listens."""
        self._places = places
        self.health.state = "ready"

    def draining(self) -> None:
        """The service ends."""
        self.health.state = "draining"

    def handled(self, topic: str, seconds: float) -> None:
        """An event's effect is committed."""
        metrics.READ.labels(topic).inc()
        metrics.STEP.observe(seconds)
        self._well()

    def duplicate(self, topic: str) -> None:
        """An event came again."""
        metrics.DROPPED.labels(topic, "duplicate").inc()

    def dead(self, topic: str, reason: str) -> None:
        """A record was dead-lettered."""
        metrics.DEAD.labels(topic, reason).inc()

    def waiting(self, why: str) -> None:
        """Something is away for now."""
        metrics.RETRIES.inc()
        self.health.details["waiting_for"] = why
        self.health.beat()
        if self.health.state == "ready":
            self.health.state = "waiting"

    def _well(self) -> None:
        self.health.details.pop("waiting_for", None)
        if self.health.state == "waiting":
            self.health.state = "ready"

    def _look(self) -> None:
        while not self._ended.wait(_EVERY):
            if self._places is None:
                self.health.beat()  # a standby is alive
                continue
            try:
                self._measure(self._places)
            except (Transient, OperationalError) as error:
                self.waiting(str(error).strip())
            else:
                self._well()
                self.health.beat()

    def _measure(self, places: Places) -> None:
        with self._pool.connection() as connection:
            heard, parked = journal.places(connection), journal.waiting(connection)
        lags = {place: high - heard.get(place, low) for place, (low, high) in places.watermarks().items()}
        for (topic, partition), lag in lags.items():
            metrics.LAG.labels(topic, str(partition)).set(lag)
        self.health.lag = sum(lags.values())
        self.health.details["parked"] = parked
