"""The registry's tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, astuple
from typing import Any

from psycopg.rows import class_row, dict_row
from psycopg_pool import ConnectionPool

from services.registry.handlers import Ports
from services.registry.model import Request, Switch
from tidemill.bus.control import Transaction
from tidemill.events.governance import ApprovalRequested
from tidemill.events.registry import VersionRegistered
from tidemill.trust.keys import KeyRing

MIGRATIONS = (
    """
    CREATE TABLE versions (
        model text NOT NULL, version integer NOT NULL, stream text NOT NULL, run text NOT NULL UNIQUE, fact jsonb NOT NULL,
        registered_at bigint NOT NULL, PRIMARY KEY (model, version));
    CREATE TABLE aliases (model text NOT NULL, alias text NOT NULL, version integer NOT NULL, PRIMARY KEY (model, alias));
    CREATE TABLE switches (
        stream text NOT NULL, model text NOT NULL, version integer NOT NULL, rollout bigint NOT NULL, partition integer NOT NULL,
        position bigint NOT NULL, effective_at bigint NOT NULL, approval text NOT NULL, run text NOT NULL,
        PRIMARY KEY (model, partition, position));
    """,
    "CREATE TABLE requests (approval text PRIMARY KEY, approved boolean NOT NULL DEFAULT false, fact jsonb NOT NULL)",
    """
    ALTER TABLE versions DROP CONSTRAINT versions_pkey, ADD PRIMARY KEY (stream, model, version);
    ALTER TABLE switches DROP CONSTRAINT switches_pkey, ADD PRIMARY KEY (stream, model, partition, position);
    ALTER TABLE aliases ADD COLUMN stream text;
    UPDATE aliases SET stream = versions.stream FROM versions
        WHERE (aliases.model, aliases.version) = (versions.model, versions.version);
    ALTER TABLE aliases DROP CONSTRAINT aliases_pkey, ADD PRIMARY KEY (stream, model, alias);
    """,
    """
    ALTER TABLE requests DROP CONSTRAINT requests_pkey, ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;
    CREATE INDEX ON requests (approval);
    """,
    """
    ALTER TABLE switches ADD COLUMN stream_time bigint;
    UPDATE switches SET stream_time = effective_at;
    ALTER TABLE switches ALTER COLUMN stream_time SET NOT NULL;
    """,
    # how a request ended was kept only where it was approved: of the others, who is no candidate any more has lapsed or was rejected
    """
    ALTER TABLE requests ADD COLUMN state text NOT NULL DEFAULT 'open', ADD COLUMN reason text NOT NULL DEFAULT '';
    UPDATE requests SET state = 'approved' WHERE approved;
    UPDATE requests SET state = 'served' FROM switches WHERE switches.approval = requests.approval;
    UPDATE requests SET state = 'lapsed', reason = 'an earlier release did not keep why' WHERE state = 'open' AND NOT EXISTS (
        SELECT 1 FROM aliases WHERE alias = 'candidate' AND (aliases.stream, aliases.model, aliases.version)
            = (requests.fact->>'stream', requests.fact->>'model', (requests.fact->>'version')::integer));
    ALTER TABLE requests DROP COLUMN approved;
    """,
)


_VERSIONS = """
    SELECT versions.fact, registered_at, coalesce(state, 'registered') AS state, coalesce(reason, '') AS reason
    FROM versions LEFT JOIN LATERAL (
        SELECT state, reason FROM requests WHERE (requests.fact->>'stream', requests.fact->>'model', requests.fact->>'version')
            = (versions.stream, versions.model, versions.version::text)
        ORDER BY (requests.fact->>'requested_at')::bigint DESC LIMIT 1) AS newest ON true
    WHERE versions.stream = %s AND versions.model = %s ORDER BY version
"""


class VersionTable:
    """`handlers.Versions` in PostgreSQL."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def of_run(self, run: str) -> int | None:
        """The version that a run became."""
        row = self._tx.execute("SELECT version FROM versions WHERE run = %s", (run,)).fetchone()
        return int(row[0]) if row else None

    def next_number(self, stream: str, model: str) -> int:
        """One more than the highest."""
        query = "SELECT coalesce(max(version), 0) + 1 FROM versions WHERE stream = %s AND model = %s"
        row = self._tx.execute(query, (stream, model)).fetchone()
        return int(row[0]) if row else 1

    def exists(self, stream: str, model: str, version: int) -> bool:
        """Whether the version is registered."""
        query = "SELECT 1 FROM versions WHERE stream = %s AND model = %s AND version = %s"
        row = self._tx.execute(query, (stream, model, version)).fetchone()
        return row is not None

    def add(self, registered: VersionRegistered) -> None:
        """Keep a version with all that is known of it."""
        self._tx.execute(
            "INSERT INTO versions (model, version, stream, run, fact, registered_at) VALUES (%s, %s, %s, %s, %s, %s)",
            (
                registered.model,
                registered.version,
                registered.stream,
                registered.run,
                registered.model_dump_json(),
                self._tx.meta.now,
            ),
        )


class AliasTable:
    """`handlers.Aliases` in PostgreSQL."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def get(self, stream: str, model: str, alias: str) -> int | None:
        """Where the alias points."""
        query = "SELECT version FROM aliases WHERE stream = %s AND model = %s AND alias = %s"
        row = self._tx.execute(query, (stream, model, alias)).fetchone()
        return int(row[0]) if row else None

    def set(self, stream: str, model: str, alias: str, version: int | None) -> None:
        """Point it elsewhere, or nowhere."""
        self._tx.execute("DELETE FROM aliases WHERE stream = %s AND model = %s AND alias = %s", (stream, model, alias))
        if version is not None:
            query = "INSERT INTO aliases (stream, model, alias, version) VALUES (%s, %s, %s, %s)"
            self._tx.execute(query, (stream, model, alias, version))


class SwitchTable:
    """`handlers.Switches` in PostgreSQL."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def add(self, switch: Switch) -> None:
        """Keep it; told twice, it is kept once."""
        columns = ", ".join(asdict(switch))
        places = ", ".join(["%s"] * len(asdict(switch)))
        self._tx.execute(f"INSERT INTO switches ({columns}) VALUES ({places}) ON CONFLICT DO NOTHING", astuple(switch))  # noqa: S608

    def newest_rollout(self, stream: str, model: str) -> int:
        """The highest rollout number of a model's switches; 0 before the first."""
        query = "SELECT coalesce(max(rollout), 0) FROM switches WHERE stream = %s AND model = %s"
        row = self._tx.execute(query, (stream, model)).fetchone()
        return int(row[0]) if row else 0


class RequestTable:
    """`handlers.Requests` in PostgreSQL."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def under(self, approval: str) -> dict[int, Request]:
        """The requests under that id by their numbers, the oldest first."""
        query = "SELECT number, fact, state, reason FROM requests WHERE approval = %s ORDER BY number"
        rows = self._tx.execute(query, (approval,))
        return {number: Request(ApprovalRequested.model_validate(fact), state, reason) for number, fact, state, reason in rows}

    def add(self, request: ApprovalRequested) -> None:
        """Keep a new request."""
        query = "INSERT INTO requests (approval, fact) VALUES (%s, %s)"
        self._tx.execute(query, (request.approval, request.model_dump_json()))

    def put(self, number: int, request: Request) -> None:
        """Keep what has become of it."""
        self._tx.execute("UPDATE requests SET state = %s, reason = %s WHERE number = %s", (request.state, request.reason, number))


def ports_with(keys: KeyRing) -> Callable[[Transaction], Ports]:
    """The handlers' ports, with the pinned keys, as a function of a transaction."""

    def ports(tx: Transaction) -> Ports:
        return Ports(VersionTable(tx), AliasTable(tx), SwitchTable(tx), RequestTable(tx), keys)

    return ports


class Shelf:
    """What the HTTP door reads."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def models(self) -> list[dict[str, Any]]:
        """Each model with its newest version and its aliases."""
        query = "SELECT model, stream, max(version) AS newest FROM versions GROUP BY model, stream ORDER BY model, stream"
        return [row | {"aliases": self.aliases(row["stream"], row["model"])} for row in self._rows(query)]

    def streams(self, model: str) -> list[str]:
        """The streams that have a model of this name."""
        return [row["stream"] for row in self._rows("SELECT DISTINCT stream FROM versions WHERE model = %s ORDER BY stream", model)]

    def aliases(self, stream: str, model: str) -> dict[str, int]:
        """Alias -> version."""
        found = self._rows("SELECT alias, version FROM aliases WHERE stream = %s AND model = %s", stream, model)
        return {row["alias"]: row["version"] for row in found}

    def versions(self, stream: str, model: str) -> list[dict[str, Any]]:
        """All versions, oldest first, with their lineage and with what has become of the newest request about each."""
        rows = self._rows(_VERSIONS, stream, model)
        return [row["fact"] | {name: row[name] for name in ("registered_at", "state", "reason")} for row in rows]

    def switches(self, stream: str, model: str) -> list[Switch]:
        """The model's history, oldest first."""
        query = "SELECT * FROM switches WHERE stream = %s AND model = %s ORDER BY rollout, partition"
        with self._pool.connection() as connection, connection.cursor(row_factory=class_row(Switch)) as cursor:
            return cursor.execute(query, (stream, model)).fetchall()

    def _rows(self, query: str, *parameters: str) -> list[dict[str, Any]]:
        with self._pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query.encode(), parameters).fetchall()
