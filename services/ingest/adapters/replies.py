"""Request and reply over Kafka: whichever process writes the log, the door that sent a raw record hears what became of it.

A door marks its record with the header `tidemill-answer-to: <caller>/<number>`. The shard's writer answers within its own process at
once, and another process by `ingest.answered.v1`. An answer is sent without waiting for it: one that is lost costs a retry, which is safe.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from confluent_kafka import KafkaException, Message, Producer

from services.ingest.adapters.answers import Answer, Answers, Status
from tidemill.bus.control_client import Follower
from tidemill.bus.producer import configuration
from tidemill.errors import Transient
from tidemill.events import wire
from tidemill.events.envelope import ANSWER_TO
from tidemill.events.ingest import Answered
from tidemill.events.registry import Registry

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
    heads: list[Any] = list(map(Message.headers, origins))
    if not any(heads):
        return {}
    return {i: to for i, head in enumerate(heads) if head and (to := _address(dict(head).get(ANSWER_TO)))}


def _address(value: bytes | None) -> Address | None:
    caller, _, number = (value or b"").decode("ascii", "replace").partition("/")
    return Address(caller, int(number)) if caller and number.isdecimal() and len(number) < 19 else None


class Replies(threading.Thread):
    """Gives answers to whom they are due, and hears those that are due here. Safe for threads."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        super().__init__(name="replies", daemon=True)
        self.answers = Answers()
        self.listening = threading.Event()
        """From then on no answer is missed."""
        self.failure: BaseException | None = None
        self._settings, self._registry = settings, registry
        self._caller, self._ending = secrets.token_hex(8), threading.Event()
        lossy = {"linger.ms": 0, "enable.gapless.guarantee": False, "message.timeout.ms": 10_000}
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

    def run(self) -> None:
        """Hear answers until `stop`; what is away for now is waited for."""
        try:
            while not self._ending.is_set():
                try:
                    self._follow()
                except Transient as error:
                    self.listening.clear()
                    logger.warning("answers are away", extra={"error": str(error)})
                    self._ending.wait(1)
        except BaseException as error:
            self.failure = error

    def stop(self) -> None:
        """End the thread."""
        self._ending.set()
        self.join(5)
        self._producer.flush(1)

    def _follow(self) -> None:
        with Follower(self._settings, [Answered], "now", self._registry) as follower:
            self.listening.set()
            while not self._ending.is_set():
                for heard in follower.poll(0.2):
                    self._hear(cast(Answered, heard.event))

    def _hear(self, said: Answered) -> None:
        if said.caller == self._caller:
            answer = Answer(cast(Status, said.status), said.partition, said.offset, said.reason, said.message)
            self.answers.tell(said.number, answer)
