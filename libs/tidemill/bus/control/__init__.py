"""The control plane, once: Faust agents around plain handlers, one PostgreSQL transaction per event.

    service = ControlService(
        name="registry",
        handlers={training.RunCompleted: on_run_completed},
        ports=lambda tx: Ports(versions=PgVersions(tx.connection), meta=tx.meta),
        timers={"deadline": on_deadline},
        migrations=["create table versions (...)"],
        http=lambda pool: router(pool),
    )
    run(service, Settings.load())

Killed at any moment, each event has its effect exactly once: the transaction holds the event's id, the topic's next offset, the
state, and what is to be said; a relay sends that in order, and hearers know a record sent twice by its id and its bytes.
"""

from tidemill.bus.control.engine import Engine
from tidemill.bus.control.run import Sidecar, run
from tidemill.bus.control.service import ControlService, Due, Handler, Meta, Parked, Saying, Timer, ToStream, Transaction
from tidemill.bus.patience import Stopped

__all__ = [
    "ControlService",
    "Due",
    "Engine",
    "Handler",
    "Meta",
    "Parked",
    "Saying",
    "Sidecar",
    "Stopped",
    "Timer",
    "ToStream",
    "Transaction",
    "run",
]
