"""What tests ask of the broker, and what they tell it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

import psutil

from tidemill.bus.consumer import reader, watermarks
from tidemill.settings import Settings

SHORT_SESSION: Final = {"session.timeout.ms": "6000"}
"""How long it waits for a killed member of a group: the least that it takes."""


def ends(settings: Settings, topic: str) -> dict[int, tuple[int, int]]:
    """By partition, the offsets of the first record and behind the last."""
    with closing(reader(settings)) as consumer:
        return watermarks(consumer, topic)


@contextmanager
def frozen(bootstrap: str) -> Iterator[None]:
    """The broker that listens there takes connections and answers nobody."""
    port = int(bootstrap.rpartition(":")[2])
    listening = (one.pid for one in psutil.net_connections("tcp") if one.laddr.port == port and one.status == psutil.CONN_LISTEN)
    broker = next(pid for pid in listening if pid)
    os.kill(broker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker, signal.SIGCONT)
