"""A control service's life: database, leadership, group offsets, agents, timers; and its end."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from psycopg_pool import ConnectionPool

from tidemill import telemetry
from tidemill.bus.control import journal
from tidemill.bus.control.agents import Agents, die
from tidemill.bus.control.clock import Clock
from tidemill.bus.control.engine import Engine
from tidemill.bus.control.places import Places
from tidemill.bus.control.relay import Relay
from tidemill.bus.control.service import ControlService
from tidemill.bus.control.sweep import Sweep
from tidemill.bus.control.watch import Observed
from tidemill.bus.control_client import topic_name
from tidemill.bus.patience import Stopped
from tidemill.events.schema_registry import Registry
from tidemill.settings import Settings

logger = logging.getLogger(__name__)

Sidecar = Callable[[Engine, threading.Event], None]
"""Work beside the handlers, in a thread of its own: `sidecar(engine, stop)` returns when `stop` is set."""

_KEPT_DAYS = 30


def run(service: ControlService, settings: Settings, sidecars: Sequence[Sidecar] = ()) -> None:
    """Run a control service until SIGTERM or SIGINT. Killed at any moment, its next life goes on with each effect once."""
    stop = threading.Event()
    pool = ConnectionPool(
        settings.postgres.get_secret_value(),
        min_size=1,
        max_size=4,
        max_waiting=16,
        timeout=10.0,
        reconnect_timeout=5.0,
        check=ConnectionPool.check_connection,
        open=False,
    )
    watch = Observed(service, settings, pool)
    engine = Engine(service, pool, Registry(settings.schema_registry), watch, stop)
    telemetry.setup(service.name, settings)
    pool.open()
    with watch:
        try:
            asyncio.run(_live(service, settings, engine, watch, sidecars, stop))
        finally:
            stop.set()
            pool.close(timeout=2.0)
            telemetry.shutdown()


async def _live(
    service: ControlService, settings: Settings, engine: Engine, watch: Observed, sidecars: Sequence[Sidecar], stop: threading.Event
) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _end, stop, engine, ended)
    relay = Relay(settings, service.name, engine.said, stop)
    try:
        await asyncio.to_thread(engine.persist, partial(_migrate, engine))
        threads = [_thread("relay", relay.run)]
        places = await asyncio.to_thread(_begin, service, settings, engine, relay)
    except Stopped:
        return
    topics = list(map(topic_name, service.handlers))
    agents = Agents(settings, places.group, topics, lambda record: engine.take_in_order(record, places.between))
    await agents.start()
    watch.ready(places)
    threads += [_thread("clock", Clock(engine, stop).run), _thread("sweep", Sweep(engine, places, stop).run)]
    threads += [_thread(f"sidecar {number}", partial(sidecar, engine, stop)) for number, sidecar in enumerate(sidecars)]
    while not ended.is_set():
        if agents.crashed:
            die("Faust has crashed: nothing is heard any more")
        await _within(ended, 1.0)
    watch.draining()
    await asyncio.wait_for(agents.stop(), 5.0)
    await asyncio.to_thread(_join, threads)


async def _within(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


def _begin(service: ControlService, settings: Settings, engine: Engine, relay: Relay) -> Places:
    """Wait to be the leader, set the group's offsets, judge what waits; raises Stopped."""
    while not relay.leading.wait(0.2):
        engine.check()
    with engine.pool.connection() as connection:
        group = f"tidemill-{service.name}-{uuid.uuid4().hex[:8]}"  # one per life: no dead member has to be waited for
        earlier, heard = journal.new_life(connection, group), journal.places(connection)
    places = Places(settings, group, list(map(topic_name, service.handlers)))
    starts = engine.persist(lambda: places.begin(heard))
    with engine.pool.connection() as connection:
        for (topic, partition), start in starts.items():
            journal.advance(connection, topic, partition, start)  # so that what is passed over before the first is missed too
    places.forget(earlier)
    engine.resume()
    return places


def _migrate(engine: Engine) -> None:
    with engine.pool.connection() as connection:
        journal.migrate(connection, engine.service.migrations)
        journal.prune(connection, _KEPT_DAYS)


def _end(stop: threading.Event, engine: Engine, ended: asyncio.Event) -> None:
    stop.set()
    engine.said.set()
    engine.planned.set()
    ended.set()


def _thread(name: str, target: Callable[[], None]) -> threading.Thread:
    def guarded() -> None:
        try:
            target()
        except Stopped:
            return
        except Exception:
            die(f"thread {name}")

    thread = threading.Thread(target=guarded, name=name, daemon=True)
    thread.start()
    return thread


def _join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.join(5.0)
