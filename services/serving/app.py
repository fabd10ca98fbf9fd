"""What serving is made of."""

from __future__ import annotations

import socket

from services.serving.fold import Serving
from services.serving.orders import Orders
from services.serving.scorers import Scorers
from tidemill.bus.control_client import Follower, Publisher
from tidemill.bus.loop import run
from tidemill.code import code_digest
from tidemill.events.governance import RolloutOrdered
from tidemill.events.schema_registry import Registry
from tidemill.settings import Settings
from tidemill.store import Store
from tidemill.trust.keys import KeyRing

CODE = ("services.serving", "tidemill.models", "tidemill.trust", "tidemill.compiled", "tidemill.events", "tidemill.spec")
"""What decides the fold's bytes."""


def build(settings: Settings) -> tuple[Serving, Orders]:
    """The fold, and the sidecar that prepares versions. Keys are read once, at the start."""
    registry, ring = Registry(settings.schema_registry), KeyRing.load(settings.trust_dir)
    scorers = Scorers(Store(settings.store_url))
    orders = Orders(
        follower=lambda: Follower(settings, [RolloutOrdered], "begin", registry),
        publisher=lambda: Publisher(settings, "serving", registry),
        scorers=scorers,
        ring=ring,
        worker=f"{socket.gethostname()}:{settings.data_dir.resolve()}",
    )
    return Serving(registry, scorers, ring, code_digest(*CODE)), orders


def main() -> None:
    """Run it until SIGTERM."""
    settings = Settings.load()
    fold, orders = build(settings)
    run(fold, settings, sidecars=(orders.run,))
