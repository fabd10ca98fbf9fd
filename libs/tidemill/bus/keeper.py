"""Keeping states: snapshots are written beside the work, and the group's offsets follow what is written (R4)."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic

from confluent_kafka import Consumer, KafkaException

from tidemill.bus import metrics
from tidemill.bus.appender import Appender
from tidemill.bus.fold import State
from tidemill.bus.pace import Pace
from tidemill.bus.worker import Worker

logger = logging.getLogger(__name__)

DRAIN: Final = 4.0
"""Seconds that the broker has to acknowledge what is under way when the process is to end: less than a supervisor waits for that end."""


class Keeper(Generic[State]):
    """Writes the states of a loop's workers, one after the other, in a thread of its own."""

    def __init__(self, consumer: Consumer, sender: Appender, pace: Pace) -> None:
        self._consumer, self._sender, self._pace = consumer, sender, pace
        self._writer = ThreadPoolExecutor(1, "snapshot")

    def look(self, worker: Worker[State]) -> None:
        """Commit a snapshot that is written by now; begin one that is due."""
        self._finish(worker)
        late = worker.folded > 0 and time.monotonic() - worker.stored_at >= self._pace.snapshot_seconds
        if not worker.writing and (late or worker.folded >= self._pace.snapshot_records):
            self._begin(worker, 1)

    def rest(self, worker: Worker[State]) -> None:
        """Bring a worker to rest: all acknowledged, written, committed."""
        self._finish(worker, wait=True)
        if worker.folded and self._begin(worker, DRAIN):
            self._finish(worker, wait=True)

    def close(self) -> None:
        """End the thread; what it writes is written."""
        self._writer.shutdown()

    def _begin(self, worker: Worker[State], seconds: float) -> bool:
        """Copy the state and have it written, where the broker has all that was said within `seconds`."""
        if not self._sender.flush(seconds):
            return False
        worker.stored_at, worker.folded, worker.standing = time.monotonic(), 0, worker.offsets()
        worker.writing = self._writer.submit(worker.shelf.put, worker.stored())
        return True

    def _finish(self, worker: Worker[State], wait: bool = False) -> None:
        """Commit what a written snapshot stands for."""
        if worker.writing is None or not (wait or worker.writing.done()):
            return
        size, worker.writing = worker.writing.result(), None
        metrics.SNAPSHOT_BYTES.labels(worker.stream, str(worker.partition)).set(size)
        try:
            self._consumer.commit(offsets=worker.standing, asynchronous=False)
        except KafkaException as error:  # the group has moved on: an older commit only means folding more again
            logger.warning("commit refused", extra={"stream": worker.stream, "partition": worker.partition, "error": str(error)})
