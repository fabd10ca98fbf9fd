"""From the HTTP door into the raw topics, and back with what became of it."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from services.ingest import errors
from services.ingest.adapters.answers import Answer, Waiting
from services.ingest.adapters.control import Catalogue
from services.ingest.adapters.json_avro import Encoder
from services.ingest.adapters.replies import Replies
from services.ingest.settings import Limits
from tidemill.bus.producer import configuration
from tidemill.errors import Refused
from tidemill.events import wire
from tidemill.spec import Bundle

if TYPE_CHECKING:
    from tidemill.settings import Settings

logger = logging.getLogger(__name__)


class Busy(Exception):
    """Too many callers wait, or the broker takes or tells nothing now."""


@dataclass(frozen=True)
class Sent:
    """An event on its way."""

    id: str
    waiting: Waiting


class Door:
    """Appends JSON events to raw topics; the writer of their shard answers, in this process or in another."""

    def __init__(self, settings: Settings, limits: Limits, catalogue: Catalogue, replies: Replies) -> None:
        self.limits, self._catalogue, self._replies = limits, catalogue, replies
        conf = configuration(settings, "ingest-door")
        delivery = {
            "message.timeout.ms": int(limits.answer * 1000),
            "enable.idempotence": False,  # what is there twice is known by its id
            "enable.gapless.guarantee": False,
            "max.in.flight": 1,
            "linger.ms": 0,
        }
        self._producer = Producer({**conf, **delivery})
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
        bundle = self._catalogue.bundle(stream)
        if bundle is None or not self._replies.listening.is_set():
            raise Busy("this process does not hear answers yet")
        if len(self._replies.answers) >= self.limits.waiting:
            raise Busy(f"{self.limits.waiting} events wait already")
        value = wire.frame(bundle.ids[source], self._encoder(bundle, source).encode(event))
        event_id = event.get(bundle.stream.sources[source].id)
        if not event_id:
            raise Refused(errors.MISSING_ID, f"{bundle.stream.sources[source].id} is empty; it names the event")
        if len(value) > self.limits.event:
            raise Refused(errors.TOO_LARGE, f"an event may have {self.limits.event} bytes, this one has {len(value)}")
        return self._send(f"raw.{stream}.{source}", str(event_id), value)

    async def answer(self, sent: Sent, seconds: float) -> Answer | None:
        """What became of it; None where that is not known within `seconds`, or the broker did not take it."""
        future = sent.waiting.future
        try:
            if future.done():  # decided long ago, though others of its body have used up the time
                return future.result()
            return await asyncio.wait_for(asyncio.wrap_future(future), max(0.0, seconds))
        except (TimeoutError, Busy):
            return None
        finally:
            self._replies.answers.forget(sent.waiting.number)

    def close(self) -> None:
        """Have the broker take what is under way."""
        self._producer.flush(2)
        self._ending.set()
        self._poller.join(2)

    def _send(self, topic: str, event_id: str, value: bytes) -> Sent:
        sent = Sent(event_id, self._replies.answers.expect())
        number = sent.waiting.number
        try:
            headers: list[tuple[str, str | bytes | None]] = [self._replies.address(number).header]
            self._producer.produce(topic, value, event_id, headers=headers, on_delivery=partial(self._delivered, number))
        except (BufferError, KafkaException) as error:
            self._replies.answers.forget(number)
            raise Busy(f"the broker takes no more at the moment: {error}") from error
        return sent

    def _delivered(self, number: int, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._replies.answers.fail(number, Busy(f"the broker did not take it: {error.str()}"))

    def _encoder(self, bundle: Bundle, source: str) -> Encoder:
        key = (bundle.digest, source)
        if key not in self._encoders:
            self._encoders[key] = Encoder(bundle.schemas[source])
        return self._encoders[key]

    def _poll(self) -> None:
        while not self._ending.is_set():
            self._producer.poll(0.1)
