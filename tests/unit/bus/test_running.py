"""What surrounds the loop: sidecars, questions to a state, the HTTP door."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, cast

import pytest
from fastapi import APIRouter

from tidemill.bus.health import Health, HttpServer, open_door
from tidemill.bus.running import Running, with_sidecars
from tidemill.bus.worker import Worker
from tidemill.settings import Settings


class Holding:
    """A worker as far as a question needs it."""

    def __init__(self, state: Any) -> None:
        self.state = state


def running(**states: Any) -> Running[Any]:
    return Running(threading.Event(), {(stream, 0): cast(Worker[Any], Holding(state)) for stream, state in states.items()})


def test_a_state_is_asked_between_two_batches() -> None:
    loop = running(s=[1, 2, 3])
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(loop.ask("s", 0, sum)))
    asking.start()
    while asking.is_alive():
        loop.answer()
    assert answers == [6]
    assert loop.owned() == {("s", 0)}


def test_a_question_about_a_foreign_partition_is_an_error_of_the_asker() -> None:
    loop = running(s=1)
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            loop.ask("s", 7, str)
        except KeyError as error:
            errors.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    while asking.is_alive():
        loop.answer()
    assert len(errors) == 1


def test_sidecars_end_with_the_work() -> None:
    loop, ended = running(), threading.Event()

    def sidecar(seen: Running[Any]) -> None:
        seen.stop.wait()
        ended.set()

    with_sidecars(loop, [sidecar], lambda: None)
    assert ended.is_set()


def test_a_sidecar_that_fails_ends_the_work() -> None:
    loop = running()

    def sidecar(_: Running[Any]) -> None:
        raise ValueError("no keys")

    with pytest.raises(ValueError, match="no keys"):
        with_sidecars(loop, [sidecar], lambda: None if loop.stop.wait(10) else pytest.fail("it went on"))


@pytest.fixture
def health() -> Health:
    return Health("serving")


@pytest.fixture
def door(health: Health) -> Iterator[HttpServer]:
    router = APIRouter()

    @router.get("/v1/greeting")
    def greeting() -> dict[str, str]:
        return {"hello": "world"}

    door = HttpServer(health, Settings(), [router])
    yield door
    door.close()


def get(door: HttpServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{door.port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_process_says_how_it_is(health: Health, door: HttpServer) -> None:
    assert get(door, "/health/ready") == (
        503,
        json.dumps({"service": "serving", "state": "starting", "lag": 0}, separators=(",", ":")),
    )
    health.state, health.lag, health.details["owned"] = "ready", 12, ["flights-0"]
    status, body = get(door, "/health/ready")
    assert (status, json.loads(body)) == (200, {"service": "serving", "state": "ready", "lag": 12, "owned": ["flights-0"]})
    assert get(door, "/health/live")[0] == 200
    health.beaten -= 1_000
    assert get(door, "/health/live")[0] == 503


def test_metrics_and_the_services_own_routes_are_behind_the_same_door(door: HttpServer) -> None:
    status, text = get(door, "/metrics")
    assert status == 200
    assert "tidemill_records_read_total" in text
    assert get(door, "/v1/greeting") == (200, '{"hello":"world"}')


def test_without_a_port_there_is_no_door(health: Health) -> None:
    assert open_door(health, Settings()) is None
