"""The raw pass-through's processes and topics."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidemill.events.topics import Topic, load_topics
from tidemill.settings import Settings
from tidemill.stack.topics import ensure_topics

_LOOP = Path(__file__).resolve().parents[1] / "peers" / "raw_loop.py"
LINGER = "5"
"""`linger.ms` of the services' producers, and librdkafka's default, in ms: what the raw loop has in both of its ratios. The services flush
what a step said, so that it is no wait of theirs; `..._without_linger` says what the raw loop does without it, in both.
"""
RAW_WARM = "raw-warm"
"""The topic of each loop's first record, before anything is timed."""


@contextmanager
def loop(settings: Settings, *words: str, linger: str = LINGER) -> Iterator[None]:
    """One raw pass-through process."""
    command = [sys.executable, str(_LOOP), *words]
    told = {"PIPELINE_BOOTSTRAP": settings.kafka, "PIPELINE_LINGER": linger, "PIPELINE_WARM": RAW_WARM}
    process = subprocess.Popen(command, env={**os.environ, **told})
    try:
        yield
    finally:
        process.kill()
        process.wait()


def make(settings: Settings, *names: str) -> None:
    """Topics like those of the data plane."""
    row = load_topics()["log.{stream}"]
    ensure_topics(settings.kafka, [Topic(**{**vars(row), "name": name, "partitions": 1, "per_shard": False}) for name in names])
