"""What the feature store is made of."""

from __future__ import annotations

from services.feature_store.fold import FeatureStore
from services.feature_store.rehearsal import rehearse
from tidemill.bus.loop import run
from tidemill.code import code_digest
from tidemill.events.schema_registry import Registry
from tidemill.settings import Settings

CODE = ("services.feature_store", "tidemill.features", "tidemill.compiled", "tidemill.spec", "tidemill.events")
"""What decides the fold's bytes."""


def build(settings: Settings) -> FeatureStore:
    """The fold with its registry."""
    return FeatureStore(Registry(settings.schema_registry), code_digest(*CODE))


def main() -> None:
    """Run it until SIGTERM."""
    settings = Settings.load()
    rehearse()
    run(build(settings), settings)
