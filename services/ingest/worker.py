"""The loop of one shard: its start (R5), its rounds, its end."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from services.ingest.adapters.control import Catalogue
from services.ingest.adapters.framing import prefixed
from services.ingest.adapters.judged import Judged
from services.ingest.adapters.log import LogReader, LogWriter
from services.ingest.adapters.raw import RawTopics
from services.ingest.adapters.replies import Replies
from services.ingest.adapters.shelf import States
from services.ingest.adapters.switches import Switches
from services.ingest.adapters.teller import Teller
from services.ingest.model import Arrival, State, Switched
from services.ingest.settings import Limits
from services.ingest.step import Plan, Shard, adopt, adopted, barrier, begin, compiled, step, unknown_ids
from tidemill.bus.control_client import Publisher
from tidemill.bus.metrics import RETRIES
from tidemill.bus.patience import Patience, Stopped
from tidemill.events.schema_registry import Registry, UnknownSchema
from tidemill.spec import Bundle
from tidemill.store import Store

if TYPE_CHECKING:
    from tidemill.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")
_PAUSE = 0.5
"""Seconds between two attempts at something that is away."""


@dataclass(frozen=True)
class Ports:
    """What the shards of a process share."""

    settings: Settings
    limits: Limits
    registry: Registry
    catalogue: Catalogue
    publisher: Publisher
    replies: Replies


class Worker(threading.Thread):
    """The writer of one shard, from the moment that the shard is assigned until it is revoked or the process ends."""

    def __init__(self, stream: str, number: int, ports: Ports) -> None:
        super().__init__(name=f"log.{stream}[{number}]", daemon=True)
        self.stream, self.number, self._ports = stream, number, ports
        self.failure: BaseException | None = None
        self.running = False
        """Whether the start is over."""
        self.lag = 0
        """Raw records that are not yet in the log."""
        self.waiting = ""
        """What the worker waits for; empty while it works."""
        self.beaten = time.monotonic()
        self._ending, self._purge = threading.Event(), False
        self._patience = Patience(self._ending, self._away, _PAUSE, _PAUSE)
        self._raw = RawTopics(ports.settings, stream, number)
        self._judged = Judged(self._raw.consumer, stream, ports.settings.dead_share)
        self._writer = LogWriter(ports.settings, stream, number, ports.registry)
        self._states = States(ports.settings, stream, number)
        self._switches = Switches(ports.catalogue, ports.publisher, ports.settings.trust_dir, Store(ports.settings.store_url))

    def stop(self, purge: bool = False) -> None:
        """End it and wait for it. With `purge` the shard is another's: what was not sent is dropped."""
        self._purge = purge
        self._ending.set()
        self.join(self._ports.limits.drain + 1)

    def run(self) -> None:
        """Start, go round, end. A failure is kept for the process to see."""
        try:
            self._work()
        except Stopped:
            pass
        except BaseException as error:
            self.failure = error
            logger.exception("shard failed", extra={"stream": self.stream, "shard": self.number})
        finally:
            self._raw.close()
            self._writer.purge()
            self._states.close()

    def _work(self) -> None:
        bundle = self._spec()
        state, shards = self._patiently(partial(self._open, bundle))
        teller = Teller(state, self._writer, self._states, self._switches, self._ports.replies, self._ports.limits, self._judged)
        for switched in state.switches.values():  # the process may have died between an append and saying it
            self._patiently(partial(self._say_again, switched))
        shard = self._begin(state, bundle, shards, teller)
        self.running = True
        while not self._ending.is_set():
            shard = self._round(shard, teller)
        if not self._purge:
            teller.drain(self._ports.limits.drain)

    def _spec(self) -> Bundle:
        """The stream's spec, once there is one."""
        catalogue = self._ports.catalogue
        while not (catalogue.caught_up.is_set() and (bundle := catalogue.bundle(self.stream))):
            self._waits("a spec: nobody has applied one that can be followed")
            if self._ending.wait(0.05):
                raise Stopped
        return bundle

    def _open(self, bundle: Bundle) -> tuple[State, int]:
        """The log's state behind a fresh barrier, and the log's number of shards."""
        reader = LogReader(self._ports.settings, self.stream, self.number)
        try:
            state = self._states.newest(reader)
            self._judged.restore(state, reader, bundle.stream.order)
            reader.follow(state, reader.end)
            offsets: list[int] = []
            self._writer.append(barrier(state, bundle, secrets.randbits(64) or 1), state.offset, {}, {0: offsets.append})
            self._writer.flush()
            reader.follow(state, offsets[0] + 1)
            self._writer.shifted = False
            logger.info(
                "shard opened", extra={"stream": self.stream, "shard": self.number, "offset": state.offset, "seq": state.seq}
            )
            return state, reader.shards
        finally:
            reader.close()

    def _begin(self, state: State, bundle: Bundle, shards: int, teller: Teller) -> Shard:
        """Adopt the spec where it is new, and read the raw topics from where the log ends."""
        if not adopted(state, bundle):
            teller.control(adopt(state, bundle))
            logger.info("spec adopted", extra={"stream": self.stream, "shard": self.number, "digest": bundle.digest})
        plan = compiled(bundle, self.number, shards, self._ports.limits.event)
        lanes = self._patiently(partial(self._raw.assign, plan.names, state.passed))
        return begin(state, plan, lanes)

    def _round(self, shard: Shard, teller: Teller) -> Shard:
        """Take what has come, one step, tell."""
        bundle, limits = self._ports.catalogue.bundle(self.stream), self._ports.limits
        if bundle is not None and (not adopted(shard.state, bundle) or self._raw.grown()):
            shard = self._begin(shard.state, bundle, shard.plan.shards, teller)
        asked = time.time_ns()
        taken = self._raw.take(limits.batch, limits.poll, limits.turn)
        polled = time.time_ns()
        arrivals = [self._patiently(partial(prefixed, arrival, self._ports.registry)) for arrival in taken]
        for arrival in arrivals:
            self._patiently(partial(self._learn, shard.plan, arrival))
        due = self._patiently(partial(self._switches.due, shard.state, shard.plan.shards, polled // 1000))
        out = step(shard, arrivals, self._raw.more(), due, polled // 1000)
        self._patiently(self._writer.ready)
        teller.tell(out, shard.plan, arrivals, asked, polled)
        for source in shard.plan.sources.values():
            source.forget_unknown()
        self._hold(shard)
        self.beaten = time.monotonic()
        return shard

    def _learn(self, plan: Plan, arrival: Arrival) -> None:
        """Ask the registry about schema ids that were not met before. Raises Transient."""
        source = plan.sources[arrival.lane.source]
        for schema_id in unknown_ids(plan, arrival):
            try:
                source.learn(schema_id, self._ports.registry.schema(schema_id))
            except UnknownSchema:
                source.learn(schema_id, None)

    def _say_again(self, switched: Switched) -> None:
        self._switches.appended(switched, self.number)

    def _hold(self, shard: Shard) -> None:
        """Bound what waits in memory, and see what it waits for."""
        limits, full, held = self._ports.limits, set(), 0
        for lane, queue in shard.merge.queues.items():
            ready, opened = queue.waiting
            held += ready + opened
            if limits.full(ready, opened, queue.held):
                full.add(lane)
            if limits.unpromised(opened, queue.held):
                self.waiting = f"the next promise of the feed of {lane.source}"
        self._raw.hold(full)
        self.lag = self._raw.lag() + held
        self.waiting = self.waiting if full else ""

    def _patiently(self, work: Callable[[], T]) -> T:
        """Try again while something that it needs is away."""
        done = self._patience(work)
        self.waiting = ""
        return done

    def _away(self, reason: str, _: float) -> None:
        RETRIES.inc()
        logger.warning("waiting", extra={"stream": self.stream, "shard": self.number, "error": reason})
        self._waits(reason)

    def _waits(self, reason: str) -> None:
        self.waiting, self.beaten = reason, time.monotonic()
