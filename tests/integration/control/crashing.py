"""The toy service as a process whose Faust crashes, as Faust does at an error of its own: it tells nobody."""

from __future__ import annotations

import asyncio
import gc
import threading

import faust

from tests.integration.control.toy import toy
from tidemill.bus.control import Engine, run
from tidemill.settings import Settings


def crash(_engine: Engine, _stop: threading.Event) -> None:
    """A sidecar: once the service hears, Faust crashes. Nobody but the service holds Faust's app, so it is looked for."""
    (app,) = (found for found in gc.get_objects() if type(found) is faust.App)
    asyncio.run_coroutine_threadsafe(app.crash(RuntimeError("as the test asks")), app.loop)


if __name__ == "__main__":
    run(toy(), Settings.load(), [crash])
