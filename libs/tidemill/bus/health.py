"""How a process says how it is: `/health/live`, `/health/ready`, `/metrics`, and the doors of the service itself."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from fastapi import APIRouter, FastAPI

    from tidemill.settings import Settings

HANGS_AFTER: Final = 300.0
"""Seconds without a beat after which a process does not count as alive."""


@dataclass
class Health:
    """What a process knows of itself; written by its loop, read by its HTTP thread."""

    service: str
    state: Literal["starting", "ready", "waiting", "draining"] = "starting"
    """`waiting`: something that it needs is away."""
    lag: int = 0
    """Records that are still to be read."""
    details: dict[str, Any] = field(default_factory=dict)
    beaten: float = field(default_factory=time.monotonic)

    def beat(self) -> None:
        """The loop goes round."""
        self.beaten = time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether the loop still goes round."""
        return time.monotonic() - self.beaten < HANGS_AFTER

    def report(self) -> dict[str, Any]:
        """The body of `/health/ready`."""
        return {"service": self.service, "state": self.state, "lag": self.lag, **self.details}


def application(health: Health, routers: Sequence[APIRouter] = ()) -> FastAPI:
    """The process's HTTP door."""
    from fastapi import FastAPI, Response
    from fastapi.responses import JSONResponse
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    app = FastAPI(title=f"Tidemill {health.service}")

    @app.get("/health/live", response_model=None)
    def live() -> JSONResponse:
        return JSONResponse({"service": health.service, "alive": health.alive}, 200 if health.alive else 503)

    @app.get("/health/ready", response_model=None)
    def ready() -> JSONResponse:
        return JSONResponse(health.report(), 200 if health.state == "ready" else 503)

    @app.get("/metrics", response_model=None)
    def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    for router in routers:
        app.include_router(router)
    return app


class HttpServer:
    """The HTTP server of a process, in a thread of its own."""

    def __init__(self, health: Health, settings: Settings, routers: Sequence[APIRouter] = ()) -> None:
        """Raises OSError where the port is taken."""
        import uvicorn

        self._socket = socket.create_server((settings.http_host, settings.http_port))
        config = uvicorn.Config(application(health, routers), log_config=None, access_log=False, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="http", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Answer what has been asked, then stop."""
        self._server.should_exit = True
        self._thread.join(2)
        self._socket.close()


def open_door(health: Health, settings: Settings, routers: Sequence[APIRouter] = ()) -> HttpServer | None:
    """The process's HTTP server; None where the settings give it no port."""
    return HttpServer(health, settings, routers) if settings.http_port else None
