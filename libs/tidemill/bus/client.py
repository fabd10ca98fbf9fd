"""What every Kafka client here is told."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError

if TYPE_CHECKING:
    from tidemill.settings import Settings

log = logging.getLogger("tidemill.bus.kafka")
_library = logging.getLogger("tidemill.bus.librdkafka")
_library.addFilter(lambda record: "CONFWARN" not in record.getMessage())  # gapless is "experimental", a pass-through is not for all


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
    """Say what the library says of its connections; it heals them itself."""
    log.warning("kafka", extra={"error": error.str()})
