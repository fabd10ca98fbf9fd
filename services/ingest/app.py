"""What ingest is made of, and how it runs: a writer per assigned shard, a listener to the control plane, an HTTP door."""

from __future__ import annotations

import logging
import signal
import threading
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, TopicPartition

from services.ingest.adapters.control import Catalogue, Listener
from services.ingest.adapters.door import Door
from services.ingest.adapters.log import LOG
from services.ingest.adapters.replies import Replies
from services.ingest.api import router
from services.ingest.settings import Limits
from services.ingest.step import warm_up
from services.ingest.worker import Ports, Worker
from tidemill import telemetry
from tidemill.bus.collector import settle
from tidemill.bus.consumer import good, leave, member, take
from tidemill.bus.control_client import Publisher
from tidemill.bus.health import Health, open_door
from tidemill.bus.limit import exit_code
from tidemill.events.schema_registry import Registry

if TYPE_CHECKING:
    from tidemill.settings import Settings

logger = logging.getLogger(__name__)


class Ingest:
    """The process: owns the shards that its consumer group gives it. Nothing is consumed through the group but ownership."""

    def __init__(self, settings: Settings, limits: Limits, registry: Registry, publisher: Publisher) -> None:
        self.health = Health("ingest")
        self.stop = threading.Event()
        self._settings, self._limits, self._registry, self._publisher = settings, limits, registry, publisher
        self._catalogue = Catalogue()
        self._replies = Replies(settings, registry)
        self._workers: dict[tuple[str, int], Worker] = {}  # by stream and shard
        self._logs = LOG.pattern(settings.streams)
        self._group: Consumer = member(settings, "ingest", [self._logs])
        self._listener = Listener(settings, registry, self._catalogue)
        self._door = Door(settings, limits, self._catalogue, self._replies)

    def run(self) -> None:
        """Until `stop` is set; raises what made a shard fail."""
        door = open_door(self.health, self._settings, [router(self._door)])
        try:
            warm_up()
            settle()
            self._listener.start()
            self._replies.start()
            self._group.subscribe([self._logs], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)
            while not self.stop.is_set():
                good(take(self._group, 1, 0.1))
                self._look()
        finally:
            self._end()
            if door is not None:
                door.close()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.assign([TopicPartition(one.topic, one.partition, _END) for one in partitions])
        consumer.pause(partitions)
        for one in partitions:
            place = (one.topic.removeprefix("log."), one.partition)
            if place not in self._workers:
                ports = Ports(self._settings, self._limits, self._registry, self._catalogue, self._publisher, self._replies)
                self._workers[place] = Worker(*place, ports)
                self._workers[place].start()

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for one in partitions:
            worker = self._workers.pop((one.topic.removeprefix("log."), one.partition), None)
            if worker is not None:
                worker.stop(purge=True)

    def _look(self) -> None:
        """See how everybody is; raises what made one fail."""
        workers = list(self._workers.values())
        for failure in (*(worker.failure for worker in workers), self._listener.failure, self._replies.failure):
            if failure is not None:
                raise failure
        self.health.lag = sum(worker.lag for worker in workers)
        self.health.details = {"shards": {f"{worker.stream}/{worker.number}": worker.waiting or "working" for worker in workers}}
        ready = (
            self._catalogue.caught_up.is_set() and self._replies.listening.is_set() and all(worker.running for worker in workers)
        )
        self.health.state = "ready" if ready else "starting"
        self.health.beaten = min((worker.beaten for worker in workers), default=self.health.beaten)
        if not workers:
            self.health.beat()

    def _end(self) -> None:
        """Drain: every shard at once, within the time that the process has."""
        self.health.state = "draining"
        ending = [threading.Thread(target=worker.stop) for worker in self._workers.values()]
        for thread in ending:
            thread.start()
        for thread in ending:
            thread.join()
        self._workers.clear()
        if self.stop.is_set():  # one that failed is back soon, and goes on at once
            leave(self._group)
        self._listener.stop()
        self._door.close()
        self._replies.stop()
        self._group.close()
        self._publisher.close()


_END = -1
"""Kafka's name for the end of a partition: the group's consumer reads nothing."""


def build(settings: Settings, limits: Limits | None = None) -> Ingest:
    """The service with its real parts."""
    limits = limits or Limits(snapshot_seconds=settings.snapshot_seconds)
    registry = Registry(settings.schema_registry)
    return Ingest(settings, limits, registry, Publisher(settings, "ingest", registry))


def main(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; SystemExit when something fails."""
    telemetry.setup("ingest", settings)
    try:
        ingest = build(settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ingest.stop.set())
        ingest.run()
    except Exception as error:
        logger.critical("stopped", exc_info=error)
        raise SystemExit(exit_code(error)) from None
    finally:
        telemetry.shutdown()
