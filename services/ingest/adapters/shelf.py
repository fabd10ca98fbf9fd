"""Snapshots of a shard's state, so that a start need not read the whole log."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from services.ingest.adapters.log import LogReader
from services.ingest.model import State
from services.ingest.step.snapshot import code, dump, load
from tidemill.bus.metrics import IGNORED, SNAPSHOT_BYTES
from tidemill.bus.snapshot import InputMark, Stored, shelf

if TYPE_CHECKING:
    from tidemill.settings import Settings

logger = logging.getLogger(__name__)


class States:
    """The snapshots of one shard."""

    def __init__(self, settings: Settings, stream: str, number: int) -> None:
        self._stream, self._number = stream, number
        self._shelf = shelf(settings.data_dir, "ingest", stream, number)
        self._writer = ThreadPoolExecutor(1, "snapshot")
        self._writing: Future[int] | None = None

    def newest(self, reader: LogReader) -> State:
        """The state of the newest snapshot that was made by this code of this log; else the state before the first record."""
        for stored in self._shelf.whole():
            mark = stored.inputs[reader.topic]
            why = "foreign" if stored.code != code() else "" if reader.stands_in(mark) else "other-input"
            if not why:
                return load(stored.snapshot)
            IGNORED.labels(why).inc()
            logger.warning("snapshot ignored", extra={"reason": why, "stream": self._stream, "shard": self._number})
        return State(self._stream, self._number)

    def put(self, state: State, topic: str, newest: str) -> None:
        """Write the state behind this call's back; `newest` is the fingerprint of the log's last record, which the broker has."""
        if self._writing is not None:
            SNAPSHOT_BYTES.labels(self._stream, str(self._number)).set(self._writing.result())
        snapshot = dump(state)
        inputs = {topic: InputMark(state.offset, state.seq + 1, state.writer, newest)}
        self._writing = self._writer.submit(self._shelf.put, Stored(code(), code(), inputs, {}, snapshot.arrays, snapshot.meta))

    def close(self) -> None:
        """Wait for what is being written."""
        self._writer.shutdown()
