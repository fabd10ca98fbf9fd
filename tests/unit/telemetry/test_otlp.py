"""With an endpoint in the environment spans go to a collector; one that is away holds nobody up."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PROCESS = """
import sys
from pathlib import Path
from tidemill import telemetry
from tidemill.settings import Settings
telemetry.setup("serving", Settings(data_dir=Path(sys.argv[1])))
telemetry.record_hop("raw", 77 << 64 | 5, (0, 7), telemetry.Moment(10, 20), attributes={"tidemill.event.id": "AA1"})
telemetry.shutdown()
"""


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taking)
        self.taken: list[ExportTraceServiceRequest] = []


class Taking(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def export(data_dir: Path, port: int) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_EXPORTER_OTLP_COMPRESSION": "none"}
    subprocess.run([sys.executable, "-c", PROCESS, str(data_dir)], env={**os.environ, **endpoint}, check=True, timeout=60)


def test_spans_reach_the_collector_that_the_environment_names(collector: Collector, tmp_path: Path) -> None:
    export(tmp_path, collector.server_port)
    (request,) = collector.taken
    (resource,) = request.resource_spans
    assert {one.key: one.value.string_value for one in resource.resource.attributes}["service.name"] == "serving"
    (span,) = resource.scope_spans[0].spans
    assert (span.name, span.trace_id.hex(), span.start_time_unix_nano) == ("raw", f"{77 << 64 | 5:032x}", 10)
    assert not (tmp_path / "traces").exists()


def test_a_collector_that_is_away_does_not_keep_a_process_from_ending(tmp_path: Path) -> None:
    begin = time.monotonic()
    export(tmp_path, 1)
    assert time.monotonic() - begin < 10
