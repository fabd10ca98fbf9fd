"""Around ingest's step, too, no Python call is made per record but the produce call, which is C."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from confluent_kafka import Message

from services.ingest.adapters.framing import prefixed
from services.ingest.adapters.log import LogWriter
from services.ingest.adapters.raw import RawTopics
from services.ingest.adapters.replies import addressed
from services.ingest.step import Records
from tests.calls import calls_of
from tidemill.events.log_header import LOG_HEADER
from tidemill.events.schema_registry import Registry
from tidemill.settings import Settings


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[RawTopics, LogWriter]]:
    """The reader and the writer of a shard, with nobody behind them."""
    settings = Settings(data_dir=tmp_path, kafka="127.0.0.1:1", librdkafka={"log_level": "0"})
    raw, writer = RawTopics(settings, "s", 0), LogWriter(settings, "s", 0, Registry("http://127.0.0.1:2"))
    yield raw, writer
    writer.purge()
    raw.close()


def messages(count: int) -> list[Message]:
    return [
        Message(topic="raw.s.a", partition=0, offset=at, key=b"k", value=b"\0\0\0\0\1x", timestamp=(2, at)) for at in range(count)
    ]


def pass_on(came: list[Message], raw: RawTopics, writer: LogWriter) -> None:
    """From what was polled to the step, and from the step to the log."""
    arrival = prefixed(raw._arrival("raw.s.a", 0, came, 0), cast(Registry, None))
    assert arrival.offsets.tolist() == [message.offset() for message in came]
    told = addressed(arrival.origins)
    assert told == {}
    keys = ["k"] * len(came)
    writer.append(Records(np.zeros(len(came), LOG_HEADER), keys, cast("list[bytes]", arrival.values)), 0, {}, {})


def calls(count: int, ends: tuple[RawTopics, LogWriter]) -> int:
    came = messages(count)
    return calls_of(lambda: pass_on(came, *ends))


def test_calls_do_not_grow_with_the_records(ends: tuple[RawTopics, LogWriter]) -> None:
    calls(10, ends)
    assert calls(3_000, ends) < calls(10, ends) + 100  # the client may tell of its lost connections meanwhile
