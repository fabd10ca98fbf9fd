"""The services, in one table: what they are called, where they are, what they are given."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tidemill.settings import PREFIX, Settings, cache_dir
from tidemill.stack.child import Child


@dataclass(frozen=True)
class Service:
    """One service: its name in `status`, its package, whether it has a database."""

    name: str
    has_database: bool = False
    package: str = "services"

    @property
    def module(self) -> str:
        """What `python -m` runs."""
        return f"{self.package}.{self.name.replace('-', '_')}"

    @property
    def role(self) -> str:
        """Its PostgreSQL role and database."""
        return f"tidemill_{self.name.replace('-', '_')}"


SERVICES = (
    Service("ingest"),
    Service("feature-store"),
    Service("serving"),
    Service("monitoring"),
    Service("training", has_database=True),
    Service("registry", has_database=True),
    Service("governance", has_database=True),
)
BY_NAME = {service.name: service for service in SERVICES}
ONE_THREAD = dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""One thread a process: scale is processes, and the same bits come out on any machine."""


def child(service: Service, settings: Settings, postgres_dsn: str | None, http_port: int, log: Path) -> Child:
    """The service's process; it is told everything by its environment."""
    return Child(service.name, [sys.executable, "-m", service.module], log, environment(settings, postgres_dsn, http_port))


def environment(settings: Settings, postgres_dsn: str | None, http_port: int) -> Mapping[str, str]:
    """The environment of a service."""
    told = {
        "DATA_DIR": str(settings.data_dir.resolve()),
        "KAFKA": settings.kafka,
        "SCHEMA_REGISTRY": settings.schema_registry,
        "POSTGRES": postgres_dsn or "",
        "HTTP_HOST": settings.http_host,
        "HTTP_PORT": str(http_port),
        "TRUST_DIR": str(settings.trust_dir.resolve()),
        "STORE": settings.store_url,
        "LOG_LEVEL": settings.log_level,
        "TRACE_SAMPLE": str(settings.trace_sample),
        "STREAMS": settings.streams,
        "SNAPSHOT_SECONDS": str(settings.snapshot_seconds),
        "DEAD_SHARE": str(settings.dead_share),
    }
    told |= {f"LIBRDKAFKA__{name}": value for name, value in settings.librdkafka.items()}
    compiled = os.environ.get("NUMBA_CACHE_DIR") or str(cache_dir() / "numba")  # kernels outlive a data directory
    return (
        {f"{PREFIX}{name}": value for name, value in told.items()}
        | ONE_THREAD
        | {"NUMBA_CACHE_DIR": compiled, "PYTHONUNBUFFERED": "1"}
    )
