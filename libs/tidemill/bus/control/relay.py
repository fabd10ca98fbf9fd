"""Sends the outbox, in order, and marks what the broker has acknowledged. One relay per service: the leader."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import psycopg
from confluent_kafka import KafkaError, KafkaException, Producer
from psycopg import Connection, OperationalError

from tidemill.bus.control import journal
from tidemill.bus.producer import configuration
from tidemill.errors import Transient
from tidemill.settings import Settings

logger = logging.getLogger(__name__)

_AT_ONCE = 200
_LOOK_AGAIN = 1.0
"""Seconds: another thread's nudge is the rule, this is for what was left by an earlier life."""


class Relay:
    """`run` in a thread of its own. `leading` is set once this process leads its service."""

    def __init__(self, settings: Settings, name: str, said: threading.Event, stop: threading.Event) -> None:
        self.leading = threading.Event()
        self._name = name
        self._settings, self._said, self._stop = settings, said, stop

    def run(self) -> None:
        """Relay to the service's end; a sending may happen twice (after a crash before the mark), an order never changes."""
        while not self._stop.is_set():
            try:
                self._lead()
            except (OperationalError, Transient, KafkaException) as error:
                logger.warning("relay waits", extra={"why": str(error).strip()})
                self._stop.wait(0.5)

    def _lead(self) -> None:
        with psycopg.connect(self._settings.postgres.get_secret_value(), autocommit=True) as connection:
            while not journal.lead(connection):
                if self._stop.wait(0.2):
                    return
            producer = self._producer()
            self.leading.set()
            while not self._stop.is_set():
                self._said.clear()
                if not self._send(connection, producer):
                    self._said.wait(_LOOK_AGAIN)

    def _send(self, connection: Connection[Any], producer: Producer) -> int:
        """Send the oldest letters; how many they were. Raises Transient where one was not taken: it is sent again."""
        letters = journal.unsent(connection, _AT_ONCE)
        answers: dict[int, KafkaError | None] = {}
        for letter in letters:
            producer.produce(
                letter.topic,
                value=letter.value,
                key=letter.key,
                headers=list(letter.headers),
                partition=-1 if letter.partition is None else letter.partition,
                on_delivery=_answer(answers, letter.number),
            )
        if letters:
            while producer.flush(0.5):
                if self._stop.is_set():
                    return 0
            self._mark(connection, letters, answers)
        return len(letters)

    def _mark(self, connection: Connection[Any], letters: list[journal.Letter], answers: dict[int, KafkaError | None]) -> None:
        taken = []
        for letter in letters:
            if letter.number not in answers or answers[letter.number] is not None:
                break
            taken.append(letter.number)
        journal.mark_sent(connection, taken)
        if len(taken) < len(letters):
            lost = letters[len(taken)]
            raise Transient(f"{lost.topic} did not take {lost.id}: {answers.get(lost.number)}")

    def _producer(self) -> Producer:
        return Producer(configuration(self._settings, self._name))


def _answer(answers: dict[int, KafkaError | None], number: int) -> Callable[[KafkaError | None, Any], None]:
    def delivered(error: KafkaError | None, _: Any) -> None:
        answers[number] = error

    return delivered
