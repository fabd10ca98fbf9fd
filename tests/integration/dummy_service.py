"""A service for the supervisor's tests: ready at once; deaf to SIGTERM where `TIDEMILL_TEST_DEAF` is set; dead where `..._BROKEN` is."""

from __future__ import annotations

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Door(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"state": "ready", "lag": 7}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    if os.environ.get("TIDEMILL_TEST_BROKEN"):
        sys.exit("the tide is out")
    if os.environ.get("TIDEMILL_TEST_DEAF"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    HTTPServer(("127.0.0.1", int(os.environ["TIDEMILL_HTTP_PORT"])), Door).serve_forever()
