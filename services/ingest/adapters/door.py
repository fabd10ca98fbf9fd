"""From the HTTP door into the raw topics, and back with what became of it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from services.ingest import errors
from services.ingest.adapters.answers import Answer, Answers, Waiting
from services.ingest.adapters.control import Catalogue
from services.ingest.adapters.json_avro import Encoder
from services.ingest.model import Lane
from services.ingest.settings import Limits
from tidemill.bus.producer import configuration
from tidemill.errors import Refused
from tidemill.events import wire
from tidemill.events.identity import hash64
from tidemill.spec import Bundle

if TYPE_CHECKING:
    from tidemill.settings import Settings

logger = logging.getLogger(__name__)


class Busy(Exception):
    """Too many callers wait, or the stream's log is not written here."""


@dataclass(frozen=True)
class Sent:
    """An event on its way."""

    id: str
    waiting: Waiting
    answers: Answers


class Door:
    """Appends JSON events to raw topics; the shard's loop answers what became of them."""

    def __init__(self, settings: Settings, limits: Limits, catalogue: Catalogue, answers: Callable[[str], Answers | None]) -> None:
        """`answers` gives those of a stream whose log is written in this process, else None."""
        self.limits, self._catalogue, self._answers = limits, catalogue, answers
        conf = configuration(settings, "ingest-door")
        delivery = {
            "message.timeout.ms": int(limits.answer * 1000),
            "enable.gapless.guarantee": False,
            "delivery.report.only.error": False,
        }
        self._producer = Producer({**conf, **delivery, "linger.ms": 0})
        self._encoders: dict[tuple[str, str], Encoder] = {}
        self._ending = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="door", daemon=True)
        self._poller.start()

    @property
    def streams(self) -> list[str]:
        """Those that a spec was applied for."""
        return self._catalogue.streams

    def bundle(self, stream: str) -> Bundle | None:
        """The stream's spec."""
        return self._catalogue.bundle(stream)

    def send(self, stream: str, source: str, event: Any) -> Sent:
        """Append one event to its raw topic. Raises Misfit, Refused (missing-id, too-large), Busy."""
        bundle, answers = self._catalogue.bundle(stream), self._answers(stream)
        if bundle is None or answers is None:
            raise Busy(f"the log of {stream!r} is not written by this process now")
        if len(answers) >= self.limits.waiting:
            raise Busy(f"{self.limits.waiting} events wait already")
        value = wire.frame(bundle.ids[source], self._encoder(bundle, source).encode(event))
        event_id = event.get(bundle.stream.sources[source].id)
        if not event_id:
            raise Refused(errors.MISSING_ID, f"{bundle.stream.sources[source].id} is empty; it names the event")
        if len(value) > self.limits.event:
            raise Refused(errors.TOO_LARGE, f"an event may have {self.limits.event} bytes, this one has {len(value)}")
        return self._send(stream, source, str(event_id), value, answers)

    async def answer(self, sent: Sent, seconds: float) -> Answer | None:
        """What became of it; None where that is not known within `seconds`, or the broker did not take it."""
        try:
            return await asyncio.wait_for(asyncio.wrap_future(sent.waiting.future), max(0.0, seconds))
        except (TimeoutError, Busy):
            return None
        finally:
            sent.answers.forget(sent.waiting)

    def close(self) -> None:
        """Have the broker take what is under way."""
        self._producer.flush(2)
        self._ending.set()
        self._poller.join(2)

    def _send(self, stream: str, source: str, event_id: str, value: bytes, answers: Answers) -> Sent:
        sent = Sent(event_id, answers.expect(hash64(event_id.encode()) ^ hash64(source.encode())), answers)
        try:
            self._producer.produce(f"raw.{stream}.{source}", value, event_id, on_delivery=partial(self._delivered, sent, source))
        except (BufferError, KafkaException) as error:
            answers.forget(sent.waiting)
            raise Busy(f"the broker takes no more at the moment: {error}") from error
        return sent

    def _delivered(self, sent: Sent, source: str, error: KafkaError | None, message: Message) -> None:
        if error is not None and not sent.waiting.future.done():
            sent.waiting.future.set_exception(Busy(f"the broker did not take it: {error.str()}"))
        elif error is None:
            sent.answers.sent(sent.waiting, Lane(source, int(message.partition() or 0)), int(message.offset() or 0))

    def _encoder(self, bundle: Bundle, source: str) -> Encoder:
        key = (bundle.digest, source)
        if key not in self._encoders:
            self._encoders[key] = Encoder(bundle.schemas[source])
        return self._encoders[key]

    def _poll(self) -> None:
        while not self._ending.is_set():
            self._producer.poll(0.1)
