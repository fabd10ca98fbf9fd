"""What the registry is made of."""

from __future__ import annotations

from services.registry import handlers
from services.registry.adapters import MIGRATIONS, ports
from services.registry.api import router
from tidemill.bus.control import ControlService, run
from tidemill.events import governance, ingest, training
from tidemill.settings import Settings


def build() -> ControlService:
    """The service: what it hears, and what it does about it."""
    return ControlService(
        name="registry",
        handlers={
            training.RunCompleted: handlers.on_run_completed,
            governance.ApprovalRequested: handlers.on_approval_requested,
            governance.ApprovalDecided: handlers.on_approval_decided,
            ingest.SwitchAppended: handlers.on_switch_appended,
        },
        ports=ports,
        migrations=MIGRATIONS,
        http=router,
    )


def main() -> None:
    """Run it until SIGTERM."""
    run(build(), Settings.load())
