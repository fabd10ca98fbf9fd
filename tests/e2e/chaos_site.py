"""A stack of its own whose processes are killed, while a feed sends flights, some of them twice."""

from __future__ import annotations

import heapq
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tests import waiting
from tests.unit.models.artifacts import tree
from tidemill.bus.consumer import read_to_end, reader, watermarks
from tidemill.bus.control_client import Follower, Publisher
from tidemill.bus.producer import gapless
from tidemill.errors import Transient
from tidemill.events.fixed import dtype_of
from tidemill.events.governance import RolloutOrdered
from tidemill.events.identity import hash64
from tidemill.events.ingest import SwitchAppended
from tidemill.events.log_header import BARRIER, HEADER, LOG_HEADER
from tidemill.events.schema_registry import Registry
from tidemill.features.vector import vector_schema
from tidemill.feed.kafka import RawTopics
from tidemill.feed.session import Session
from tidemill.feed.timeline import Lane
from tidemill.settings import Settings
from tidemill.spec import Bundle
from tidemill.stack.state import Running, State
from tidemill.store import Store
from tidemill.trust import dsse, keys
from tidemill.trust.statement import Decision, Statement

FLIGHTS = Path(__file__).parents[2] / "usecases" / "flights"
MODEL, GROUP, APPROVER = "late-arrival", "ops-review", "ann"
DAY = 86_400_000_000
DEADLINE = 180.0
"""Seconds; whatever does not come by then does not come."""


def seed() -> int:
    """`TIDEMILL_TEST_SEED`, to repeat what failed; else another one each time."""
    return int(os.environ.get("TIDEMILL_TEST_SEED") or random.SystemRandom().randrange(10**6))


def tell(text: str) -> None:
    """Shown where a test fails."""
    sys.stderr.write(f"{text}\n")


def until(condition: Callable[[], Any], what: str, seconds: float = DEADLINE) -> Any:
    """What the condition gives as soon as it is true. A broker that is away has not said no."""

    def asked() -> Any:
        with suppress(Transient):
            return condition()

    return waiting.until(asked, what, seconds)


@dataclass
class Site:
    """A stack in a directory of its own; its supervisor starts again what is killed."""

    home: Path
    killed: dict[str, list[int]] = field(default_factory=dict)
    """The process ids that were killed, by name."""
    _command: tuple[tuple[str, ...], dict[str, str]] = ((), {})
    """How it was started: options and environment."""

    @contextmanager
    def up(self, *options: str, **environment: str) -> Iterator[Settings]:
        """The stack, ended afterwards with all its processes."""
        keys.generate(APPROVER, self.home / "private", self.home / "trust" / GROUP)
        told = {"TIDEMILL_TRUST_DIR": str(self.home / "trust"), **environment}
        self._command = options, told
        try:
            self.tidemill("up", "--detach", *options, environment=told)
            yield Settings.load(self.data)
        except BaseException:
            self._tell()
            raise
        finally:
            self.tidemill("down")

    @property
    def data(self) -> Path:
        """The stack's data directory."""
        return self.home / "data"

    def tidemill(self, *words: str, environment: dict[str, str] | None = None) -> None:
        """One command."""
        command = [sys.executable, "-m", "tidemill.cli.main", *words, "--data-dir", str(self.data)]
        subprocess.run(command, env={**os.environ, **(environment or {})}, check=True, stdout=subprocess.DEVNULL)

    def status(self) -> dict[str, Any]:
        """What `tidemill status` says of each service."""
        command = [sys.executable, "-m", "tidemill.cli.main", "status", "--output", "json", "--data-dir", str(self.data)]
        found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["services"]
        return found

    def kill(self, name: str) -> None:
        """Kill -9 the next life of a service or server, as soon as there is one."""
        process = until(lambda: self._alive(name), f"a life of {name}")
        process.kill()
        process.wait(30)
        self.killed.setdefault(name, []).append(process.pid)

    def end_and_start(self) -> None:
        """End the whole stack as a person does, and start it on the same data directory."""
        options, told = self._command
        self.tidemill("down")
        self.tidemill("up", "--detach", *options, environment=told)

    def _alive(self, name: str) -> psutil.Process | None:
        state = State.read(self.data)
        running: Running | None = (state.services | state.parts).get(name) if state else None
        if running is None or running.pid in self.killed.get(name, []):
            return None
        return running.process()

    def _tell(self) -> None:
        """The end of each log, shown where the test failed."""
        for file in sorted((self.data / "logs").glob("*.log")):
            tell(f"---- {file.name}\n{file.read_text(errors='replace')[-3_000:]}")


@contextmanager
def new_site() -> Iterator[Site]:
    """A site in a directory that is removed afterwards."""
    home = Path(tempfile.mkdtemp(prefix="tidemill-chaos-"))
    home.chmod(0o755)  # PostgreSQL may run as a user of its own
    try:
        yield Site(home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


class Feed:
    """The use case's history into the raw topics, each source's promise after every piece; some records come again later.

    A repeat has the id and the bytes of its first, and comes any number of records after it, as far as the ids are remembered.
    """

    SHARE = 0.02
    REACH = 5 * DAY
    """Of event time: within the 7 days that the use case's ids are remembered."""

    def __init__(self, settings: Settings, chance: random.Random) -> None:
        self._session = session = Session(settings, FLIGHTS)
        self.bundle, self.lanes, self.begin = session.applied, session.timeline.lanes, session.timeline.first
        self._raw = RawTopics(
            gapless(settings, "feed"), Registry(settings.schema_registry), session.stream, dict.fromkeys(self.names, 1)
        )
        self._chance, self.until = chance, self.begin
        self.sent: Counter[str] = Counter()
        """First records, by source."""
        self.repeats = 0
        self._later: dict[str, list[tuple[int, tuple[bytes, bytes]]]] = {name: [] for name in self.names}
        self._promise()  # from its first promise on, ingest waits for all sources

    @property
    def names(self) -> list[str]:
        """The sources, in the spec's order."""
        return [lane.source for lane in self.lanes]

    def marks(self, events: int, size: int) -> list[int]:
        """Times that cut the first `events` events into pieces of about `size`."""
        known = np.sort(np.concatenate([lane.known for lane in self.lanes]))
        return sorted({int(known[min(at + size, events) - 1]) + 1 for at in range(0, events, size)})

    def send(self, limit: int) -> None:
        """Everything that is known before `limit` and was not yet sent, and the promise of it."""
        for lane in self.lanes:
            self._raw.send(lane.source, self._some_twice(lane, limit))
        self.until = limit
        self._promise()

    def send_rest(self) -> None:
        """The repeats that are still to come."""
        for source, later in self._later.items():
            self.repeats += self._raw.send(source, [record for _, record in sorted(later)])
            later.clear()
        self._raw.flush()

    def expected(self) -> list[tuple[int, bytes]]:
        """(source, id) of all that was sent, in the order that the log is to have (R8)."""
        rows = []
        for index, lane in enumerate(self.lanes):
            end = lane.count(self.until)
            known, ids = lane.known[:end].tolist(), lane.rows[lane.id_column][:end].tolist()
            rows += [(at, index, place, one.encode()) for place, (at, one) in enumerate(zip(known, ids, strict=True))]
        return [(index, identity) for _, index, _, identity in sorted(rows)]

    def close(self) -> None:
        self._session.close()

    def _promise(self) -> None:
        for name in self.names:
            self._raw.promise(name, self.until, ended=False)
        self._raw.flush()

    def _some_twice(self, lane: Lane, limit: int) -> Iterator[tuple[bytes, bytes]]:
        later, reach = self._later[lane.source], lane.count(self.begin + self.REACH)
        for record in lane.records(self.until, limit):
            yield record
            self.sent[lane.source] += 1
            if self._chance.random() < self.SHARE:
                heapq.heappush(later, (self.sent[lane.source] + int(reach ** self._chance.random()), record))
            while later and later[0][0] <= self.sent[lane.source]:
                self.repeats += 1
                yield heapq.heappop(later)[1]


@dataclass
class Ends:
    """How many records topics have, asked again and again."""

    settings: Settings

    def __post_init__(self) -> None:
        self._consumer = reader(self.settings, "chaos")

    def __call__(self, topic: str) -> int:
        return sum(high - low for low, high in watermarks(self._consumer, topic, 5).values())

    def close(self) -> None:
        self._consumer.close()


WIDE = ("carrier_delays__delay_mean__24h", "dest_arrivals__delay_mean__7d")
"""What differs from one departure to the next; the labels of the fixed model go by these."""


def trees(bundle: Bundle) -> dict[str, bytes]:
    """An artifact that reads every feature of the spec; what it has learnt is of no use but to tell vectors apart."""
    rows = np.zeros(3_000, dtype_of(vector_schema(bundle, "departure")))
    names = [name for name in rows.dtype.names or () if "__" in name]
    chance = np.random.default_rng(7)
    for name in names:
        codes = [hash64(text) for text in (b"UA", b"B6", b"EV", b"DL", b"EWR", b"JFK", b"LGA")]
        texts = rows.dtype[name] == np.uint64
        rows[name] = chance.choice(np.array(codes, np.uint64), len(rows)) if texts else chance.normal(10, 25, len(rows))
    names = [*WIDE, *(name for name in names if name not in WIDE)]
    return tree(rows, names, model=MODEL, trigger=f"{bundle.stream.stream}.departure", rounds=60)


def seat(settings: Settings, bundle: Bundle, at: int, private: Path) -> None:
    """Order a fixed model into service as of event time `at`, signed; return when the switch stands in the log."""
    stream, store = bundle.stream.stream, Store(settings.store_url)
    artifact, report, expires = store.put_tree(trees(bundle)), store.put(b"{}"), time.time_ns() // 1000 + 10**12
    shared: dict[str, Any] = {
        "stream": stream, "model": MODEL, "version": 1, "report": report, "action": "promote", "rollout": 1,
        "effective_at": at, "approval": "a1", "run": "r1", "requester": "bob", "author": "bob", "expires": expires,
    }  # fmt: skip
    statement = Statement.of(artifact, Decision(**shared, reason="chaos")).text().encode()
    envelope = dsse.sign(statement, keys.load_private(private / f"{APPROVER}.pem"), APPROVER)
    order = RolloutOrdered(
        **shared, order="o1", artifact=artifact, fallback=None, group=GROUP, required=1, envelopes=[envelope],
    )  # fmt: skip
    with Follower(settings, [SwitchAppended], "begin") as follower, Publisher(settings, "test") as publisher:
        publisher.publish(order)
        until(lambda: follower.poll(0.2), "the switch")


def late_batch(settings: Settings, stream: str) -> int:
    """What a dead ingest's last request might have held, in the log behind its successor's barrier (R5); how many records.

    Returns 0 while there is no successor.
    """
    topic = f"log.{stream}"
    messages = [message for batch in read_to_end(settings, topic) for message in batch]
    heads = np.frombuffer(b"".join([dict(message.headers() or ())[HEADER] for message in messages]), LOG_HEADER)  # type: ignore[misc]
    barriers = np.flatnonzero(heads["kind"] == BARRIER)
    if len(barriers) < 2:
        return 0
    last = np.arange(max(barriers[0] + 1, barriers[1] - 50), barriers[1])
    late = heads[last].copy()
    late["seq"] += len(last)
    again = [messages[at] for at in last.tolist()]
    sender = gapless(settings, "late")
    headers = [[(HEADER, row.tobytes())] for row in late]
    sender.send(topic, 0, [message.key() for message in again], [message.value() or b"" for message in again], headers)  # type: ignore[misc]
    assert sender.flush(30)
    return len(last)


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """End a process that the test started."""
    process.send_signal(signal.SIGTERM)
    process.wait(30)
