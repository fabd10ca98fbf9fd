"""The Faust agents: one per topic, one event at a time.

Of Faust only consuming is used. Faust 0.15.3 acknowledges an event in a `finally` even when its agent raised or was cancelled
(faust#606 and others), and passes over what a rebalance found in its buffers; so no error may reach it, and the engine finds
records that were passed over by their offsets, the last ones of a partition by the sweep. Tables, `take` and exactly_once are not
used; nor is the `confluent://` driver.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import faust

from tidemill.bus.patience import Stopped
from tidemill.events.dead import Record
from tidemill.settings import Settings

logger = logging.getLogger(__name__)

BUG = 70
"""Exit code (EX_SOFTWARE) of a process that stops for a bug: its position stays."""


class Agents:
    """`start` and `stop` in the event loop; `take(record)` is called in one thread, one record after another."""

    def __init__(self, settings: Settings, group: str, topics: Sequence[str], take: Callable[[Record], None]) -> None:
        for library in ("faust", "mode", "aiokafka"):
            logging.getLogger(library).setLevel(logging.WARNING)  # at info they tell every step of their own start
        self._take = take
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._app = faust.App(
            group,
            datadir=settings.data_dir.resolve() / "faust",
            broker=[f"aiokafka://{server.strip()}" for server in settings.kafka.split(",")],
            value_serializer="raw",
            key_serializer="raw",
            store="memory://",
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=16 * 1024 * 1024,
            broker_session_timeout=10.0,
            broker_heartbeat_interval=2.0,
            broker_commit_interval=2.0,
            stream_wait_empty=False,
            stream_recovery_delay=0.0,
        )
        for topic in topics:
            channel = self._app.topic(topic, key_type=bytes, value_type=bytes, value_serializer="raw", key_serializer="raw")
            self._app.agent(channel, name=f"on {topic}", concurrency=1)(self._listen)

    async def start(self) -> None:
        """Join the group and listen."""
        await self._app.start()

    @property
    def crashed(self) -> bool:
        """Whether Faust has given up, which it tells nobody."""
        return bool(self._app.crashed)

    async def stop(self) -> None:
        """Finish the event at hand, and leave."""
        self._worker.shutdown(wait=False)
        await self._app.stop()

    async def _listen(self, stream: Any) -> None:
        loop = asyncio.get_running_loop()
        events: AsyncIterable[Any] = stream.events()
        async for event in events:
            try:
                await loop.run_in_executor(self._worker, self._take, record_of(event.message))
            except Stopped:
                await asyncio.Event().wait()  # until Faust cancels: the event is not taken, and must not be followed by others
            except Exception:
                die("an event was not taken")


def record_of(message: Any) -> Record:
    """Faust's message as ours."""
    headers = message.headers or ()
    pairs = headers.items() if isinstance(headers, dict) else headers
    return Record(message.topic, message.partition, message.offset, message.key, message.value, list(pairs))


def die(what: str) -> NoReturn:
    """Stop the process at a bug, before anything acknowledges its event."""
    logger.critical("stopped: %s", what, exc_info=True)
    logging.shutdown()
    os._exit(BUG)
