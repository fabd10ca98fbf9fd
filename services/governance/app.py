"""What governance is made of."""

from __future__ import annotations

from services.governance import handlers
from services.governance.adapters import MIGRATIONS, ports_with
from services.governance.api import router
from tidemill.bus.control import ControlService, run
from tidemill.events import governance, ingest, registry, spec
from tidemill.settings import Settings
from tidemill.trust.keys import KeyRing


def build(settings: Settings) -> ControlService:
    """The service: what it hears, and what it does about it. The pinned keys are read once, at the start."""
    return ControlService(
        name="governance",
        handlers={
            spec.Applied: handlers.on_applied,
            registry.VersionRegistered: handlers.on_version_registered,
            registry.AliasChanged: handlers.on_alias_changed,
            governance.DecisionSubmitted: handlers.on_decision_submitted,
            ingest.SwitchRefused: handlers.on_switch_refused,
        },
        ports=ports_with(KeyRing.load(settings.trust_dir), settings),
        timers={handlers.DEADLINE: handlers.on_deadline},
        migrations=MIGRATIONS,
        http=router,
    )


def main() -> None:
    """Run it until SIGTERM."""
    settings = Settings.load()
    run(build(settings), settings)
