"""What every Kafka client here is told."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError

if TYPE_CHECKING:
    from tidemill.settings import Settings

logger = logging.getLogger("tidemill.bus.kafka")
_library = logging.getLogger("tidemill.bus.librdkafka")


def _worth_saying(record: logging.LogRecord) -> bool:
    """Not that gapless is "experimental", nor that a pass-through is not for all; and what failed is told to `trouble` anyway."""
    return not record.getMessage().startswith(("CONFWARN", "FAIL", "ERROR"))


_library.addFilter(_worth_saying)


def common(settings: Settings, name: str) -> dict[str, Any]:
    """The part of a client's configuration that all share; the settings' own table is to come after the rest."""
    return {
        "bootstrap.servers": settings.kafka,
        "client.id": f"tidemill-{name}",
        "socket.nagle.disable": True,
        "reconnect.backoff.max.ms": 1_000,
        "log.connection.close": False,
        "logger": _library,
    }


def trouble(error: KafkaError) -> None:
    """Say that the brokers are away, once for all connections; the library heals them itself."""
    if error.code() not in (KafkaError._TRANSPORT, KafkaError._RESOLVE):
        logger.warning("kafka", extra={"error": error.str()})
