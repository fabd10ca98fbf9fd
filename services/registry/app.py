"""What the registry is made of."""

from __future__ import annotations

from services.registry import handlers
from services.registry.adapters import MIGRATIONS, ports_with
from services.registry.api import router
from tidemill.bus.control import ControlService, run
from tidemill.events import governance, ingest, training
from tidemill.settings import Settings
from tidemill.trust.keys import KeyRing


def build(settings: Settings) -> ControlService:
    """The service: what it hears, and what it does about it. The pinned keys are read once, at the start."""
    return ControlService(
        name="registry",
        handlers={
            training.RunCompleted: handlers.on_run_completed,
            governance.ApprovalRequested: handlers.on_approval_requested,
            governance.ApprovalDecided: handlers.on_approval_decided,
            ingest.SwitchAppended: handlers.on_switch_appended,
            ingest.SwitchRefused: handlers.on_switch_refused,
        },
        ports=ports_with(KeyRing.load(settings.trust_dir)),
        migrations=MIGRATIONS,
        http=router,
    )


def main() -> None:
    """Run it until SIGTERM."""
    settings = Settings.load()
    run(build(settings), settings)
