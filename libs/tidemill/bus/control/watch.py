"""What a control service tells about itself."""

from __future__ import annotations

from typing import Self

from psycopg_pool import ConnectionPool

from tidemill.bus.control.places import Places
from tidemill.bus.control.service import ControlService
from tidemill.settings import Settings


class Observed:
    def __init__(self, service: ControlService, settings: Settings, pool: ConnectionPool) -> None:
        self._places: Places | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def ready(self, places: Places) -> None:
        self._places = places

    def handled(self, topic: str, seconds: float) -> None: ...
    def duplicate(self, topic: str) -> None: ...
    def dead(self, topic: str, reason: str) -> None: ...
    def waiting(self, why: str) -> None: ...
