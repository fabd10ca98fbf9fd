"""What training is made of."""

from __future__ import annotations

import os
import socket
import uuid

from services.training import handlers
from services.training.adapters import MIGRATIONS, ports
from services.training.runner import Runner
from tidemill.bus.control import ControlService, run
from tidemill.events import monitoring, spec, training
from tidemill.settings import Settings


def build() -> ControlService:
    """The service: what it hears, and what it does about it."""
    return ControlService(
        name="training",
        handlers={
            spec.Applied: handlers.on_applied,
            monitoring.WindowClosed: handlers.on_window_closed,
            training.RetrainRequested: handlers.on_retrain_requested,
        },
        ports=ports,
        migrations=MIGRATIONS,
    )


def main() -> None:
    """Run it until SIGTERM."""
    settings = Settings.load()
    worker = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
    run(build(), settings, [Runner(settings, worker)])
