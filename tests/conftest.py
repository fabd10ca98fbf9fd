"""One real Kafka, schema registry and PostgreSQL per test session; a stream name per test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from hypothesis import settings as hypothesis_settings
from psycopg import sql

from tests.waiting import until
from tidemill.events.schema_registry import Registry
from tidemill.events.topics import Topic, stream_topics
from tidemill.settings import Settings
from tidemill.stack.state import State
from tidemill.stack.topics import ensure_topics

hypothesis_settings.register_profile("tidemill", deadline=None)  # a time limit would make a test of the machine
hypothesis_settings.load_profile("tidemill")


@dataclass(frozen=True)
class Stack:
    """The servers of this session. No services run in it."""

    bootstrap: str
    registry_url: str
    postgres: str
    """The administrator's DSN."""
    root: Path

    @property
    def registry(self) -> Registry:
        return Registry(self.registry_url)

    def settings(self, **over: Any) -> Settings:
        """Settings of a process on this stack, with a fresh data directory unless one is given."""
        over.setdefault("data_dir", Path(tempfile.mkdtemp(dir=self.root)))
        return Settings(**{"kafka": self.bootstrap, "schema_registry": self.registry_url} | over)

    def environment(self, settings: Settings, postgres: str = "", http_port: int = 0) -> dict[str, str]:
        """The environment of a service's process with these settings."""
        from tidemill.stack.services import environment

        return {**os.environ, **environment(settings, postgres, http_port)}

    def new_database(self) -> str:
        """The DSN of a fresh database with its own owner."""
        name = f"t_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.postgres, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(name)))
            connection.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(sql.Identifier(name)))
        address = self.postgres.rpartition("@")[2].split("/")[0]
        return f"postgresql://{name}:{name}@{address}/{name}"

    def topics(self, topics: Iterable[Topic]) -> None:
        """Create topics."""
        ensure_topics(self.bootstrap, topics)

    def plain_topic(self, partitions: int = 1) -> str:
        """A fresh topic with the broker's own settings; its name."""
        name, admin = f"plain-{uuid.uuid4().hex[:8]}", AdminClient({"bootstrap.servers": self.bootstrap})
        admin.create_topics([NewTopic(name, partitions)])[name].result(30)
        until(lambda: name in admin.list_topics(timeout=10).topics, "the topic")
        return name

    def stream(self, stream: str, *sources: str, shards: int = 1) -> None:
        """Create all topics of a stream."""
        self.topics(stream_topics(stream, sources, shards))


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The session's stack; `TIDEMILL_TEST_STACK` names the state.json of a running one to use instead."""
    root = Path(tempfile.mkdtemp(prefix="tidemill-tests-"))
    root.chmod(0o755)
    given = os.environ.get("TIDEMILL_TEST_STACK")
    try:
        state = State.model_validate_json(Path(given).read_text()) if given else _up(root / "stack")
        yield Stack(state.kafka, state.schema_registry, state.postgres, root)
    finally:
        if not given:
            _tidemill("down", root / "stack")
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def stream_name() -> str:
    """A stream that no other test has."""
    return f"t-{uuid.uuid4().hex[:10]}"


def _up(data_dir: Path) -> State:
    _tidemill("up", data_dir, "--no-services", "--detach")
    state = State.read(data_dir)
    assert state is not None
    return state


def _tidemill(command: str, data_dir: Path, *options: str) -> None:
    subprocess.run([sys.executable, "-m", "tidemill.cli.main", command, "--data-dir", str(data_dir), *options], check=True)
