"""Request and reply over Kafka: whichever process writes the log, the door that sent a raw record hears what became of it.

A door marks its record with the header `tidemill-answer-to: <caller>/<number>`. The shard's writer answers within its own process at
once, and another process by `ingest.answered.v1`. An answer is sent without waiting for it: one that is lost costs a retry, which is safe.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from confluent_kafka import KafkaException, Producer

from services.ingest.adapters.answers import Answer, Answers, Status
from services.ingest.adapters.following import Following
from tidemill.bus.consumer import headers_of
from tidemill.bus.control_client import Heard
from tidemill.bus.producer import configuration
from tidemill.errors import Transient
from tidemill.events import wire
from tidemill.events.envelope import ANSWER_TO
from tidemill.events.ingest import Answered
from tidemill.events.schema_registry import Registry

if TYPE_CHECKING:
    from tidemill.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """Who asked, and by which number."""

    caller: str
    number: int

    @property
    def header(self) -> tuple[str, bytes]:
        """As a raw record bears it."""
        return ANSWER_TO, f"{self.caller}/{self.number}".encode()


def addressed(origins: Sequence[Any]) -> dict[int, Address]:
    """By index, who wants to hear of a raw record; records without headers cost no Python call."""
    heads = headers_of(origins)
    if not any(heads):
        return {}
    return {i: to for i, head in enumerate(heads) if head and (to := _address(dict(head).get(ANSWER_TO)))}


def _address(value: bytes | None) -> Address | None:
    caller, _, number = (value or b"").decode("ascii", "replace").partition("/")
    return Address(caller, int(number)) if caller and number.isdecimal() and len(number) < 19 else None


class Replies(Following):
    """Gives answers to whom they are due, and hears those that are due here. Safe for threads."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        super().__init__("replies", settings, registry, [Answered], "now")
        self.answers = Answers()
        self._caller = secrets.token_hex(8)
        lossy = {"linger.ms": 0, "enable.idempotence": False, "enable.gapless.guarantee": False, "message.timeout.ms": 10_000}
        self._producer = Producer({**configuration(settings, "ingest-replies"), **lossy})

    def address(self, number: int) -> Address:
        """Of a question of this process."""
        return Address(self._caller, number)

    def tell(self, to: Address, answer: Answer) -> None:
        """Answer, here or there."""
        if to.caller == self._caller:
            self.answers.tell(to.number, answer)
            return
        said = Answered(
            caller=to.caller,
            number=to.number,
            status=answer.status,
            partition=answer.partition,
            offset=answer.offset,
            reason=answer.reason,
            message=answer.message,
        )
        try:
            self._producer.produce(Answered.ce_type(), wire.encode(said, self._registry), said.kafka_key())
            self._producer.poll(0)
        except (BufferError, KafkaException, Transient) as error:
            logger.warning("an answer was not sent", extra={"error": str(error)})

    def hear(self, heard: Heard) -> None:
        """Pass an answer on that is due here."""
        said = cast(Answered, heard.event)
        if said.caller == self._caller:
            answer = Answer(cast(Status, said.status), said.partition, said.offset, said.reason, said.message)
            self.answers.tell(said.number, answer)

    def stop(self) -> None:
        """End the thread; what was said is sent."""
        super().stop()
        self._producer.flush(1)
