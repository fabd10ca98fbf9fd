"""The data plane's own line to the brokers: aiokafka's client on an event loop in a thread of its own.

What waits for a broker (a fetch, an acknowledgement) goes on there while a fold computes.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from aiokafka.errors import KafkaConnectionError

if TYPE_CHECKING:
    from tidemill.settings import Settings

logger = logging.getLogger("tidemill.bus.kafka")

REQUEST: Final = 120_000
"""ms after which a request without an answer is given up: a broker that died closes its connections, and is not waited for."""
BACKOFF: Final = 100
"""ms before what failed is tried again."""
LEAVING: Final = 1.0
"""Seconds that a broker has for a good-bye; one that does not read would hold the end up."""
_CLOSING: Final = 2.5


class Line:
    """An event loop in a thread. What it runs may not block."""

    def __init__(self, name: str) -> None:
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it tells each attempt at a broker that is away; we say so once
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Begin with it at once."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def tell(self, call: Callable[[], object]) -> None:
        """Have the loop call this soon."""
        self._loop.call_soon_threadsafe(call)

    def close(self, last: Coroutine[Any, Any, Any]) -> None:
        """End with this; what else runs is cancelled."""
        try:
            with suppress(TimeoutError):
                self.run(_ended_with(last)).result(_CLOSING)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CLOSING)
            if not self._thread.is_alive():
                self._loop.close()


async def _ended_with(last: Coroutine[Any, Any, Any]) -> None:
    await last
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def left(last: Coroutine[Any, Any, Any]) -> None:
    """Take leave, for a moment at most."""
    with suppress(TimeoutError):
        await asyncio.wait_for(last, LEAVING)


async def connected(connect: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Connect, however long the brokers are away; that is said once."""
    said = False
    while True:
        try:
            await connect()
            return
        except KafkaConnectionError as error:
            if not said:
                logger.warning("kafka", extra={"error": str(error)})
            said = True
            await asyncio.sleep(BACKOFF / 1000)


def connecting(settings: Settings, name: str) -> dict[str, Any]:
    """What aiokafka's clients are told; of the settings' own table what it says of security."""
    table = settings.librdkafka
    protocol = table.get("security.protocol", "plaintext").upper()
    return {
        "bootstrap_servers": [server.strip() for server in settings.kafka.split(",")],
        "client_id": f"tidemill-{name}",
        "request_timeout_ms": REQUEST,
        "retry_backoff_ms": BACKOFF,
        "security_protocol": protocol,
        "ssl_context": _encryption(table) if protocol in ("SSL", "SASL_SSL") else None,
        "sasl_mechanism": table.get("sasl.mechanism", table.get("sasl.mechanisms", "PLAIN")),
        "sasl_plain_username": table.get("sasl.username"),
        "sasl_plain_password": table.get("sasl.password"),
    }


def _encryption(table: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=table.get("ssl.ca.location"))
    if table.get("ssl.endpoint.identification.algorithm") == "none":
        context.check_hostname = False
    if table.get("enable.ssl.certificate.verification") == "false":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate := table.get("ssl.certificate.location"):
        context.load_cert_chain(certificate, table.get("ssl.key.location"), table.get("ssl.key.password"))
    return context
