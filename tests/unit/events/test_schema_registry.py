"""The registry's client beside a server that behaves as badly as told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tidemill.errors import Transient
from tidemill.events.schema_registry import Registry, UnknownSchema


class Server(ThreadingHTTPServer):
    """Hangs up so many times, then answers with `status` and one schema, of which `kept` bytes never come: the server
    hangs up, or stays `silent`.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hang_ups, self.status, self.asked, self.kept, self.silent = 0, 200, 0, 0, False

    @property
    def registry(self) -> Registry:
        return Registry(f"http://127.0.0.1:{self.server_port}", 0.2 if self.silent else 10.0)


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        if self.server.asked <= self.server.hang_ups:
            self.close_connection = True
            return
        body = json.dumps({"schema": '"string"', "message": "as told"}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) - self.server.kept])
        if self.server.kept and self.server.silent:
            self.rfile.read()  # until the other side gives up

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_server_that_hangs_up_is_asked_once_more(server: Server) -> None:
    server.hang_ups = 1
    assert server.registry.schema(1) == {"type": "string"}
    assert server.asked == 2


@pytest.mark.parametrize("status", [200, 404, 500])
@pytest.mark.parametrize("silent", [False, True])
def test_an_answer_whose_end_never_comes_is_no_answer(server: Server, status: int, silent: bool) -> None:
    server.status, server.kept, server.silent = status, 5, silent
    with pytest.raises(Transient, match=f"does not answer: {'TimeoutError' if silent else 'IncompleteRead'}"):
        server.registry.schema(1)


def test_one_that_goes_on_hanging_up_is_away(server: Server) -> None:
    server.hang_ups = 3
    with pytest.raises(Transient, match=rf"127\.0\.0\.1:{server.server_port} does not answer"):
        server.registry.schema(1)
    assert server.asked == 2


def test_a_failing_server_is_away(server: Server) -> None:
    server.status = 503
    with pytest.raises(Transient, match="answered 503 to /schemas/ids/1"):
        server.registry.schema(1)


def test_an_id_that_it_does_not_have_is_unknown(server: Server) -> None:
    server.status = 404
    with pytest.raises(UnknownSchema):
        server.registry.schema(1)
