"""The data plane's loop: records in, a pure fold, records out; exactly once by position (R1, R3, R4, R5).

    run(FeatureStore(...), Settings.load())

Kill it at any moment: the next life starts at the newest snapshot that the outputs, the inputs and the group's offsets bear out, folds
forward, and says only what the outputs do not have.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic

from confluent_kafka import Consumer, TopicPartition

from tidemill import telemetry
from tidemill.bus import metrics
from tidemill.bus.appender import Appender
from tidemill.bus.collector import keep, settle
from tidemill.bus.consumer import browser, committed, good, leave, member
from tidemill.bus.fetcher import Fetcher
from tidemill.bus.fold import Batch, Fold, State
from tidemill.bus.health import Health, open_door
from tidemill.bus.intake import intake
from tidemill.bus.keeper import DRAIN, Keeper
from tidemill.bus.limit import DeadShare, exit_code
from tidemill.bus.pace import Pace
from tidemill.bus.patience import Patience, Stopped
from tidemill.bus.records import Fetched, rehearse
from tidemill.bus.running import Running, Shard, with_sidecars
from tidemill.bus.snapshot import shelf
from tidemill.bus.tail import Lookup
from tidemill.bus.trail import Trail
from tidemill.bus.worker import Opening, Worker
from tidemill.errors import Transient
from tidemill.events.schema_registry import Registry

if TYPE_CHECKING:
    from fastapi import APIRouter

    from tidemill.settings import Settings

logger = logging.getLogger(__name__)

PATIENCE: Final = 120.0
"""Seconds to wait for something that is away, within the 300 after which the group would give the partitions to another; then it is
the supervisor's turn.
"""
CHORES: Final = 0.25
"""Seconds between looks at lag and snapshots."""
FIRST: Final = 1_000
"""Records after which all that is loaded or compiled on first use is there."""


def run(
    fold: Fold[State],
    settings: Settings,
    sidecars: Sequence[Callable[[Running[State]], None]] = (),
    doors: Callable[[Running[State]], Sequence[APIRouter]] = lambda _: (),
    pace: Pace | None = None,
) -> None:
    """Run a service until SIGTERM or SIGINT; raises SystemExit when it cannot go on.

    `sidecars` run in threads of their own until `Running.stop` is set; one that raises ends the process. `doors` gives the routers of
    the service's HTTP door.
    """
    telemetry.setup(fold.name, settings)
    try:
        loop = Loop(fold, settings, pace or Pace(snapshot_seconds=settings.snapshot_seconds))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: loop.running.stop.set())
        door = open_door(loop.health, settings, doors(loop.running))
        try:
            with_sidecars(loop.running, sidecars, loop.go)
        finally:
            if door is not None:
                door.close()
    except Exception as error:
        logger.critical("stopped", exc_info=error)
        raise SystemExit(exit_code(error)) from None
    finally:
        telemetry.shutdown()


class Loop(Generic[State]):
    """One process's part of a fold: the partitions that the group gives it."""

    def __init__(self, fold: Fold[State], settings: Settings, pace: Pace) -> None:
        self.health: Final = Health(fold.name)
        self._fold, self._settings, self._pace = fold, settings, pace
        self._inputs = {source.name: source for source in fold.inputs}
        self._workers: dict[Shard, Worker[State]] = {}
        self.running: Final[Running[State]] = Running(threading.Event(), self._workers)
        self._patterns = [source.pattern(settings.streams) for source in fold.inputs]
        self._consumer = member(settings, fold.name, self._patterns)
        self._fetcher = Fetcher(settings, fold.name, pace.gather)
        self._sender = Appender(settings, fold.name, [output.template for output in fold.outputs.values()])
        self._lookup = Lookup(browser(settings, fold.name))
        self._schemas = Registry(settings.schema_registry)
        rehearse()
        self._keeper = Keeper[State](self._consumer, self._sender, pace)
        self._dead = DeadShare(settings.dead_share)
        self._patiently = Patience(self.running.stop, self._waiting, 0.05, 2.0, PATIENCE)
        self._chores_at, self._first = 0.0, FIRST

    def go(self) -> None:
        """Fold until `running.stop` is set, then drain. Any error ends it as a kill would: with nothing committed that is not so."""
        try:
            self._consumer.subscribe(self._patterns, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
            self._go_round()
            self._drain()
            self._workers.clear()
            leave(self._consumer)
        finally:
            self._workers.clear()
            self._consumer.close()
            self._fetcher.close()
            self._sender.close()
            self._lookup.close()
            self._keeper.close()

    def _go_round(self) -> None:
        try:
            while not self.running.stop.is_set():
                self._belong()
                polled = telemetry.now()
                taken = self._fetcher.take(self._pace.batch, self._pace.idle)
                began = telemetry.now()
                for (topic, partition), records in taken:
                    self._take(topic, partition, records, (polled, began))
                self.running.answer()
                self._chores()
        except Stopped:
            pass

    def _belong(self) -> None:
        """Take part in the group, which only says whose the partitions are: they are read by the fetcher."""
        if said := self._consumer.poll(0):
            good([said])

    def _take(self, topic: str, partition: int, records: Fetched, moments: tuple[int, int]) -> None:
        name, _, stream = topic.partition(".")
        worker = self._workers[stream, partition]
        batch, place = intake(self._inputs[name], topic, partition, records, worker.places[topic])
        if batch is not None:
            self._patiently(lambda: self._fold.prepare(worker.state, batch))
            self._step(worker, batch, topic, moments)
            self._balance(worker)
            self._settle(len(batch))
        worker.places[topic] = place
        worker.folded += len(records)

    def _step(self, worker: Worker[State], batch: Batch, topic: str, moments: tuple[int, int]) -> None:
        trail = Trail(self._fold.name, batch, topic, *moments)
        with metrics.STEP.time():
            said = worker.step(batch)
        trail.stepped = telemetry.now()
        self._await_turn()
        for output, rows in said:
            self._sender.send(output.topic, output.partition, rows.keys, rows.values, trail.heads(output, rows))
        self._sender.go()
        sent = telemetry.now()
        trail.record(sent)
        self._dead.count(len(batch), sum(rows.failed for _, rows in said))
        metrics.READ.labels(topic).inc(len(batch))
        metrics.BATCH.observe(len(batch))
        metrics.LATENCY.labels(topic).observe(sent / 1e9 - int(batch.times[0]) / 1e3)

    def _await_turn(self) -> None:
        """Wait until there is room for what a step said; not at the end, since what this step says must not be lost."""
        while not self._sender.ready(CHORES) and not self.running.stop.is_set():
            self.health.beat()

    def _settle(self, records: int) -> None:
        if 0 < self._first <= records:
            keep()
        self._first -= records

    def _balance(self, worker: Worker[State]) -> None:
        """Stop reading the inputs that the fold has enough of, and go on with those that it again wants."""
        full = frozenset(self._fold.full(worker.state))
        if full != worker.paused:
            self._fetcher.pause(_places(worker, full - worker.paused))
            self._fetcher.pause(_places(worker, worker.paused - full), paused=False)
            worker.paused = full

    def _chores(self) -> None:
        now = time.monotonic()
        if now < self._chores_at:
            return
        self._chores_at = now + CHORES
        self.health.beat()
        self.health.state = "ready"
        self.health.lag = sum(map(self._lag, self._workers.values()))
        self._sender.check()
        for worker in self._workers.values():
            self._keeper.look(worker)

    def _lag(self, worker: Worker[State]) -> int:
        total = 0
        for topic in worker.places:
            lag = self._fetcher.lag((topic, worker.partition))
            metrics.LAG.labels(topic, str(worker.partition)).set(lag)
            total += lag
        return total

    def _drain(self) -> None:
        self.health.state = "draining"
        if not self._sender.flush(DRAIN):
            raise RuntimeError(
                f"the broker did not acknowledge everything within {DRAIN:.0f} s; the next start says the rest again"
            )
        for worker in self._workers.values():
            self._keeper.rest(worker)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        shards: dict[Shard, list[str]] = {}
        for place in partitions:
            shards.setdefault((place.topic.partition(".")[2], place.partition), []).append(place.topic)
        for shard, topics in shards.items():
            self._workers[shard] = self._patiently(partial(self._open, shard, topics))
        starts = [place for shard, topics in shards.items() for place in _starts(self._workers[shard], topics)]
        settle()
        consumer.assign(starts)
        consumer.pause(starts)
        self._fetcher.assign({(start.topic, start.partition): start.offset for start in starts})

    def _open(self, shard: Shard, topics: list[str]) -> Worker[State]:
        stream, partition = shard
        if not self._sender.flush(1):  # else the outputs' tails would not show what is still under way from before a rebalance
            raise Transient("the broker has not acknowledged everything yet")
        found = committed(self._consumer, [TopicPartition(topic, partition) for topic in topics])
        begins = {place.topic: max(0, place.offset) for place in found}
        own = shelf(self._settings.data_dir, self._fold.name, stream, partition)
        return Opening(self._fold, stream, partition, topics, begins, own, self._lookup, self._schemas).open()

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._fetcher.drop((place.topic, place.partition) for place in partitions)
        for shard in {(place.topic.partition(".")[2], place.partition) for place in partitions}:
            if worker := self._workers.pop(shard, None):
                self._keeper.rest(worker)

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """Another has them already: nothing of them is to be written or committed."""
        self._fetcher.drop((place.topic, place.partition) for place in partitions)
        for place in partitions:
            self._workers.pop((place.topic.partition(".")[2], place.partition), None)

    def _waiting(self, why: str, _: float) -> None:
        self.health.state = "waiting"
        metrics.RETRIES.inc()
        logger.warning("waiting", extra={"why": why})


def _places(worker: Worker[Any], names: frozenset[str]) -> list[tuple[str, int]]:
    return [(topic, worker.partition) for topic in worker.places if topic.partition(".")[0] in names]


def _starts(worker: Worker[Any], topics: list[str]) -> list[TopicPartition]:
    return [TopicPartition(topic, worker.partition, worker.places[topic].offset) for topic in topics]
