"""Training's tables, and what it sees of the features topics."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from services.training.model import Alert, Asked, History, Window
from services.training.ports import Ports
from tidemill.bus.consumer import reader
from tidemill.bus.control import Transaction
from tidemill.bus.tail import Lookup, tail_of
from tidemill.errors import Transient
from tidemill.events.training import PartitionEnd, RunRequested
from tidemill.settings import Settings
from tidemill.spec import Bundle

logger = logging.getLogger(__name__)

MIGRATIONS = (
    """
    CREATE TABLE specs (stream text PRIMARY KEY, content text NOT NULL);
    CREATE TABLE windows (
        stream text NOT NULL, model text NOT NULL, begin bigint NOT NULL, ends bigint NOT NULL, newest jsonb NOT NULL,
        PRIMARY KEY (stream, model));
    CREATE TABLE runs (
        run text PRIMARY KEY, stream text NOT NULL, model text NOT NULL, cause_id text NOT NULL, at_time bigint NOT NULL,
        effective_at bigint NOT NULL, request jsonb NOT NULL, traceparent text, state text NOT NULL DEFAULT 'open',
        number bigint GENERATED ALWAYS AS IDENTITY, worker text, lease timestamptz, attempts integer NOT NULL DEFAULT 0,
        crashes integer NOT NULL DEFAULT 0, UNIQUE (stream, model, cause_id));
    CREATE TABLE declined (stream text NOT NULL, model text NOT NULL, cause_id text NOT NULL, PRIMARY KEY (stream, model, cause_id));
    """,
    "ALTER TABLE runs ADD COLUMN ends jsonb;",
    """
    ALTER TABLE windows ADD COLUMN partition integer;
    UPDATE windows SET partition = (newest ->> 'partition')::integer;
    ALTER TABLE windows DROP CONSTRAINT windows_pkey, ADD PRIMARY KEY (stream, model, partition);
    """,
)


class SpecTable:
    """`ports.Specs` in PostgreSQL."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def get(self, stream: str) -> Bundle | None:
        """The stream's spec."""
        row = self._tx.execute("SELECT content FROM specs WHERE stream = %s", (stream,)).fetchone()
        return _bundle(row[0]) if row else None

    def put(self, stream: str, content: str) -> None:
        """Keep the newest."""
        self._tx.execute(
            "INSERT INTO specs VALUES (%s, %s) ON CONFLICT (stream) DO UPDATE SET content = excluded.content", (stream, content)
        )


class WindowTable:
    """`ports.Windows` in PostgreSQL."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def newest(self, stream: str, model: str) -> list[Window]:
        """One per shard, the one with the latest end first."""
        query = "SELECT newest FROM windows WHERE stream = %s AND model = %s ORDER BY ends DESC, partition"
        return [_window(row[0]) for row in self._tx.execute(query, (stream, model))]

    def put(self, window: Window) -> None:
        """Keep a window, where it is its shard's newest."""
        self._tx.execute(
            "INSERT INTO windows (stream, model, partition, begin, ends, newest) VALUES (%s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (stream, model, partition) DO UPDATE"
            " SET ends = excluded.ends, newest = excluded.newest WHERE windows.ends < excluded.ends",
            (window.stream, window.model, window.partition, window.start, window.end, json.dumps(asdict(window))),
        )


class RunTable:
    """`ports.Runs` in PostgreSQL."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def history(self, stream: str, model: str) -> History:
        """What was decided about a model."""
        which = (stream, model)
        runs = self._tx.execute(
            "SELECT run, at_time, effective_at, state = 'open', cause_id FROM runs WHERE stream = %s AND model = %s ORDER BY number",
            which,
        ).fetchall()
        declined = self._tx.execute("SELECT cause_id FROM declined WHERE stream = %s AND model = %s", which).fetchall()
        begin = self._tx.execute("SELECT min(begin) FROM windows WHERE stream = %s AND model = %s", which).fetchone()
        return History(
            runs=tuple(Asked(*row[:4]) for row in runs),
            served=frozenset(row[4] for row in runs),
            declined=frozenset(row[0] for row in declined),
            begin=begin[0] if begin else None,
        )

    def request(self, run: RunRequested, traceparent: str | None) -> None:
        """Open a run."""
        self._tx.execute(
            "INSERT INTO runs (run, stream, model, cause_id, at_time, effective_at, request, traceparent)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            (run.run, run.stream, run.model, run.cause_id, run.at_time, run.effective_at, run.model_dump_json(), traceparent),
        )

    def decline(self, stream: str, model: str, cause_id: str) -> None:
        """Remember that it was said."""
        self._tx.execute("INSERT INTO declined VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", (stream, model, cause_id))

    def close(self, run: str, state: str) -> None:
        """The run `completed` or `failed`."""
        self._tx.execute("UPDATE runs SET state = %s, worker = NULL, lease = NULL WHERE run = %s", (state, run))


class Features:
    """How far the features topics have come. For one thread."""

    def __init__(self, settings: Settings) -> None:
        self._lookup = Lookup(reader(settings, "training-tail"))

    def ends(self, request: RunRequested) -> list[PartitionEnd] | None:
        """Where the partitions but the cause's end now; None until all that stands before the cause is there."""
        topic = f"features.{request.stream}"
        try:
            if not self._passed(topic, request):
                return None
            others = (number for number in range(self._lookup.topics()[topic]) if number != request.partition)
            return [PartitionEnd(partition=number, end=self._end(topic, number)) for number in others]
        except Transient as error:
            logger.info("run waits", extra={"run": request.run, "why": str(error)})
            return None

    def _passed(self, topic: str, request: RunRequested) -> bool:
        """Something at or behind the cause's position is there."""
        tail = tail_of(self._lookup, topic, request.partition)
        return tail is not None and tail.position >= request.position

    def _end(self, topic: str, partition: int) -> int:
        """By sequence number: an offset would also count what a writer said twice."""
        tail = tail_of(self._lookup, topic, partition)
        return tail.seq + 1 if tail else 0


@dataclass(frozen=True)
class Claim:
    """A run that this process may fit."""

    request: RunRequested
    attempt: int
    crashes: int
    traceparent: str | None
    ends: list[PartitionEnd]
    """Where the partitions but the cause's end for this run."""


class Leases:
    """Who fits which run. A lease that is not kept up ends after `seconds`."""

    def __init__(self, tx: Transaction, worker: str, seconds: float = 20.0) -> None:
        self._tx, self._worker, self._seconds = tx, worker, seconds

    def free(self) -> None:
        """End all leases: who leads the service knows that no other process fits."""
        self._tx.execute("UPDATE runs SET worker = NULL, lease = NULL WHERE state = 'open' AND worker <> %s", (self._worker,))

    def waiting(self) -> list[RunRequested]:
        """The open runs that nobody fits, oldest first."""
        query = "SELECT request FROM runs WHERE state = 'open' AND (lease IS NULL OR lease < now()) ORDER BY number"
        return [RunRequested.model_validate(row[0]) for row in self._tx.execute(query)]

    def claim(self, run: str, ends: Sequence[PartitionEnd]) -> Claim | None:
        """Take a run; None where another was quicker. The `ends` of its first attempt hold for all: each has to read the same."""
        row = self._tx.execute(
            "UPDATE runs SET worker = %s, lease = now() + make_interval(secs => %s), attempts = attempts + 1,"
            " ends = coalesce(ends, %s::jsonb)"
            " WHERE run = %s AND state = 'open' AND (lease IS NULL OR lease < now())"
            " RETURNING request, attempts, crashes, traceparent, ends",
            (self._worker, self._seconds, json.dumps([end.model_dump() for end in ends]), run),
        ).fetchone()
        if row is None:
            return None
        kept = [PartitionEnd.model_validate(end) for end in row[4]]
        return Claim(RunRequested.model_validate(row[0]), row[1], row[2], row[3], kept)

    def keep(self, run: str) -> bool:
        """Prolong the lease; False where another has it."""
        query = "UPDATE runs SET lease = now() + make_interval(secs => %s) WHERE run = %s AND worker = %s AND state = 'open'"
        return self._tx.execute(query, (self._seconds, run, self._worker)).rowcount == 1

    def give_up(self, run: str, crashed: bool) -> None:
        """Let go of a run that has to be fitted again."""
        query = "UPDATE runs SET worker = NULL, lease = NULL, crashes = crashes + %s WHERE run = %s AND worker = %s"
        self._tx.execute(query, (int(crashed), run, self._worker))


def ports(tx: Transaction) -> Ports:
    """The handlers' ports on one transaction."""
    return Ports(SpecTable(tx), WindowTable(tx), RunTable(tx), tx.meta)


def _window(found: dict[str, Any]) -> Window:
    return Window(**{**found, "alerts": tuple(Alert(**alert) for alert in found["alerts"])})


@lru_cache(8)
def _bundle(content: str) -> Bundle:
    return Bundle.from_json(content)
