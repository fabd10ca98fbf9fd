"""What monitoring is made of."""

from __future__ import annotations

from services.monitoring.fold import Monitoring
from tidemill.bus.loop import run
from tidemill.bus.pace import Pace
from tidemill.code import code_digest
from tidemill.events.schema_registry import Registry
from tidemill.settings import Settings
from tidemill.store import Store
from tidemill.trust.keys import KeyRing

CODE = ("services.monitoring", "tidemill.models", "tidemill.trust", "tidemill.compiled", "tidemill.events", "tidemill.spec")
"""What decides the fold's bytes."""
GATHER = 100
"""Milliseconds. Windows last hours, and nobody waits: records that come one by one need not be counted one by one
(`docs/decisions/few-records-share-a-step.md`).
"""


def build(settings: Settings) -> Monitoring:
    """The fold. Keys are read once, at the start."""
    return Monitoring(
        Registry(settings.schema_registry), Store(settings.store_url), KeyRing.load(settings.trust_dir), code_digest(*CODE)
    )


def main() -> None:
    """Run it until SIGTERM."""
    settings = Settings.load()
    run(build(settings), settings, pace=Pace(snapshot_seconds=settings.snapshot_seconds, gather=GATHER))
