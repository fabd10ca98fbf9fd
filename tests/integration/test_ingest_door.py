"""A body of several events of which some are decided late: each event has its own answer, and nobody else is harmed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from services.ingest import errors
from services.ingest.adapters.answers import Answer
from services.ingest.adapters.control import Catalogue, Listener
from services.ingest.adapters.door import Door
from services.ingest.adapters.replies import Address, Replies, addressed
from services.ingest.api import router
from services.ingest.settings import Limits
from tests.conftest import Stack
from tests.integration.ingest_stream import Stream
from tests.waiting import until
from tidemill.bus.consumer import read_to_end
from tidemill.bus.health import Health, application
from tidemill.events.topics import control_topics

PATIENCE = 2.0


@dataclass
class Doorway:
    """A door on the real broker, and the writer of its shard, in whose place the test decides what becomes of an event, and when."""

    stream: Stream
    client: TestClient
    replies: Replies
    writer: Replies
    callers: ThreadPoolExecutor
    asked: int = 0

    def post(self, *ids: str) -> Future[Response]:
        events = [{"id": name, "at": "2001-09-09T01:46:40Z", "amount": 1.0, "color": None} for name in ids]
        return self.callers.submit(self.client.post, f"/v1/streams/{self.stream.name}/a", json=events)

    def questions(self, count: int) -> list[Address]:
        """Who wants to hear of the next events of the raw topic."""
        self.asked += count
        until(lambda: len(self._raw()) == self.asked, f"{self.asked} raw records")
        return list(addressed(self._raw()[-count:]).values())

    def _raw(self) -> list[Any]:
        return [message for part in read_to_end(self.stream.settings, f"raw.{self.stream.name}.a") for message in part]


@pytest.fixture
def doorway(stack: Stack, stream_name: str) -> Iterator[Doorway]:
    stack.topics(control_topics())
    stream, catalogue = Stream(stack, stream_name), Catalogue()
    stream.apply()
    settings, registry = stream.settings, stack.registry
    listener, replies, writer = Listener(settings, registry, catalogue), Replies(settings, registry), Replies(settings, registry)
    listener.start()
    replies.start()
    door = Door(settings, Limits(answer=PATIENCE), catalogue, replies)
    until(lambda: catalogue.bundle(stream_name) and replies.listening.is_set(), "a door that hears")
    with ThreadPoolExecutor(1) as callers, TestClient(application(Health("ingest"), [router(door)])) as client:
        yield Doorway(stream, client, replies, writer, callers)
    door.close()
    for following in (listener, replies):
        following.stop()


def test_events_of_one_body_that_are_decided_late_keep_back_no_other_answer(doorway: Doorway) -> None:
    late = [f"late-{number}" for number in range(5)]
    response = doorway.post(*late, "good", "bad")
    *addresses, good, bad = doorway.questions(7)
    doorway.writer.tell(good, Answer("accepted", 0, 7))
    doorway.writer.tell(bad, Answer("rejected", reason=errors.ID_CONFLICT, message="other content"))
    told = response.result(30)
    assert told.status_code == 207
    assert [(one["code"], one["id"], one.get("reason")) for one in told.json()["results"]] == [
        *((503, name, "not-yet") for name in late), (202, "good", None), (409, "bad", errors.ID_CONFLICT),
    ]  # fmt: skip
    assert told.elapsed.total_seconds() < len(late) * PATIENCE, "the patience is the body's, not each event's"
    assert len(doorway.replies.answers) == 0, "what is late is not waited for for ever"

    for address in addresses:
        doorway.writer.tell(address, Answer("accepted", 0, 8))
    response = doorway.post(*late)
    for address in doorway.questions(len(late)):
        doorway.writer.tell(address, Answer("duplicate", 0, 8))
    told = response.result(30)
    assert told.status_code == 202
    assert [(one["status"], one["id"]) for one in told.json()["results"]] == [("duplicate", name) for name in late]
    assert doorway.replies.failure is None
