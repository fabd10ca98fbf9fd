"""Governance's tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from services.governance.model import Proposal
from services.governance.ports import Ports
from tidemill.bus.consumer import browser
from tidemill.bus.control import Meta, Transaction
from tidemill.bus.tail import Lookup
from tidemill.errors import Transient
from tidemill.events.governance import ApprovalRequested, AuditAppended
from tidemill.settings import Settings
from tidemill.spec import Bundle
from tidemill.trust import audit
from tidemill.trust.keys import KeyRing

MIGRATIONS = (
    """
    CREATE TABLE specs (stream text PRIMARY KEY, author text NOT NULL, content text NOT NULL);
    CREATE TABLE champions (model text PRIMARY KEY, version integer NOT NULL);
    CREATE TABLE proposals (
        approval text PRIMARY KEY, model text NOT NULL, version integer NOT NULL, rollout bigint NOT NULL, state text NOT NULL,
        reason text NOT NULL, request jsonb NOT NULL, envelopes jsonb NOT NULL,
        UNIQUE (model, version), UNIQUE (model, rollout));
    CREATE UNIQUE INDEX one_open_proposal ON proposals (model) WHERE state = 'open';
    CREATE TABLE audit (number bigint PRIMARY KEY, fact jsonb NOT NULL);
    """,
    """
    ALTER TABLE proposals ADD COLUMN stream text;
    UPDATE proposals SET stream = request ->> 'stream';
    ALTER TABLE proposals ALTER COLUMN stream SET NOT NULL,
        DROP CONSTRAINT proposals_model_version_key, DROP CONSTRAINT proposals_model_rollout_key,
        ADD UNIQUE (stream, model, version), ADD UNIQUE (stream, model, rollout);
    DROP INDEX one_open_proposal;
    CREATE UNIQUE INDEX one_open_proposal ON proposals (stream, model) WHERE state = 'open';
    ALTER TABLE champions ADD COLUMN stream text;
    UPDATE champions SET stream = proposals.stream FROM proposals
        WHERE (champions.model, champions.version) = (proposals.model, proposals.version);
    ALTER TABLE champions DROP CONSTRAINT champions_pkey, ADD PRIMARY KEY (stream, model);
    """,
    """
    ALTER TABLE proposals ADD COLUMN measured integer, ADD COLUMN answered boolean NOT NULL DEFAULT false;
    UPDATE proposals SET answered = true FROM champions NATURAL JOIN proposals AS served
        WHERE (proposals.stream, proposals.model) = (served.stream, served.model) AND proposals.rollout <= served.rollout;
    """,
    """
    CREATE TABLE authors (stream text, digest text, author text NOT NULL, PRIMARY KEY (stream, digest));
    INSERT INTO authors SELECT fact ->> 'subject', detail ->> 'digest', detail ->> 'author'
        FROM audit, LATERAL (SELECT (fact ->> 'detail')::jsonb AS detail) AS told WHERE fact ->> 'kind' = 'spec-applied'
        ORDER BY number ON CONFLICT DO NOTHING;
    ALTER TABLE proposals ADD COLUMN spec_author text NOT NULL DEFAULT '';
    """,
)


class SpecTable:
    """`ports.Specs` in PostgreSQL."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def put(self, stream: str, digest: str, author: str, content: str) -> None:
        """Keep the newest spec of a stream, and who was the first to apply each."""
        self._tx.execute("INSERT INTO authors VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", (stream, digest, author))
        self._tx.execute(
            "INSERT INTO specs VALUES (%s, %s, %s)"
            " ON CONFLICT (stream) DO UPDATE SET author = excluded.author, content = excluded.content",
            (stream, author, content),
        )

    def get(self, stream: str) -> tuple[str, Bundle] | None:
        """(author, bundle) of the newest spec."""
        row = self._tx.execute("SELECT author, content FROM specs WHERE stream = %s", (stream,)).fetchone()
        return (row[0], Bundle.from_json(row[1])) if row else None

    def author(self, stream: str, digest: str) -> str | None:
        """Who was the first to apply the spec of this digest."""
        row = self._tx.execute("SELECT author FROM authors WHERE (stream, digest) = (%s, %s)", (stream, digest)).fetchone()
        return str(row[0]) if row else None


class ProposalTable:
    """`ports.Proposals` in PostgreSQL."""

    _QUERY = "SELECT request, state, envelopes, reason, measured, spec_author FROM proposals WHERE "

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def get(self, approval: str) -> Proposal | None:
        """The request of that id."""
        return self._one("approval = %s", approval)

    def open_of(self, stream: str, model: str) -> Proposal | None:
        """The model's open request."""
        return self._one("stream = %s AND model = %s AND state = 'open'", stream, model)

    def of_version(self, stream: str, model: str, version: int) -> Proposal | None:
        """The request about a version."""
        return self._one("stream = %s AND model = %s AND version = %s", stream, model, version)

    def put(self, proposal: Proposal) -> None:
        """Keep a request as it is now."""
        request = proposal.request
        self._tx.execute(
            "INSERT INTO proposals"
            " (approval, stream, model, version, rollout, state, reason, request, envelopes, measured, spec_author)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (approval) DO UPDATE"
            " SET state = excluded.state, reason = excluded.reason, envelopes = excluded.envelopes",
            (
                request.approval,
                request.stream,
                request.model,
                request.version,
                request.rollout,
                proposal.state,
                proposal.reason,
                request.model_dump_json(),
                json.dumps(proposal.envelopes),
                proposal.measured,
                proposal.spec_author,
            ),
        )

    def next_rollout(self, stream: str, model: str) -> int:
        """One more than any request of the model ever had."""
        query = "SELECT coalesce(max(rollout), 0) + 1 FROM proposals WHERE stream = %s AND model = %s"
        row = self._tx.execute(query, (stream, model)).fetchone()
        return int(row[0]) if row else 1

    def ordered(self, stream: str, model: str) -> Proposal | None:
        """The newest approved one whose order has had no answer."""
        return self._one(
            "stream = %s AND model = %s AND state = 'approved' AND NOT answered ORDER BY rollout DESC LIMIT 1", stream, model
        )

    def answered(self, approval: str) -> None:
        """Its order has had its answer."""
        self._tx.execute("UPDATE proposals SET answered = true WHERE approval = %s", (approval,))

    def answered_up_to(self, stream: str, model: str, rollout: int) -> None:
        """The orders up to this number have had their answer."""
        query = "UPDATE proposals SET answered = true WHERE stream = %s AND model = %s AND rollout <= %s"
        self._tx.execute(query, (stream, model, rollout))

    def _one(self, where: str, *parameters: object) -> Proposal | None:
        row = self._tx.execute(self._QUERY + where, parameters).fetchone()
        return _proposal(*row) if row else None


class ChampionTable:
    """`ports.Champions` in PostgreSQL."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def get(self, stream: str, model: str) -> int | None:
        """The version that serves."""
        query = "SELECT version FROM champions WHERE stream = %s AND model = %s"
        row = self._tx.execute(query, (stream, model)).fetchone()
        return int(row[0]) if row else None

    def set(self, stream: str, model: str, version: int | None) -> None:
        """Remember who serves now."""
        self._tx.execute("DELETE FROM champions WHERE stream = %s AND model = %s", (stream, model))
        if version is not None:
            self._tx.execute("INSERT INTO champions (stream, model, version) VALUES (%s, %s, %s)", (stream, model, version))


class AuditTable:
    """`ports.Audit` in PostgreSQL: the chain's end is read and extended in the event's own transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def append(self, kind: str, subject: str, detail: dict[str, object]) -> AuditAppended:
        """Link one more fact."""
        row = self._tx.execute("SELECT fact FROM audit ORDER BY number DESC LIMIT 1").fetchone()
        last = AuditAppended.model_validate(row[0]) if row else None
        entry = audit.link(last, self._tx.meta.now, kind, subject, self._tx.meta.id, detail)
        self._tx.execute("INSERT INTO audit VALUES (%s, %s)", (entry.number, entry.model_dump_json()))
        return entry


class Arrivals:
    """`ports.Arrivals`, read from the record's place on the broker: few decisions need it."""

    def __init__(self, settings: Settings, meta: Meta) -> None:
        self._settings, self._meta = settings, meta

    def taken(self) -> int:
        """The time that the broker gave the record; raises Transient."""
        meta, lookup = self._meta, Lookup(browser(self._settings, "governance-arrivals"))
        try:
            record = lookup.record(meta.topic, meta.partition, meta.offset)
        finally:
            lookup.close()
        if record is None:
            raise Transient(f"{meta.topic}[{meta.partition}] does not show its record {meta.offset} again")
        return record.timestamp()[1] * 1000


def ports_with(keys: KeyRing, settings: Settings) -> Callable[[Transaction], Ports]:
    """The handlers' ports, with the pinned keys, as a function of a transaction."""

    def ports(tx: Transaction) -> Ports:
        arrivals = Arrivals(settings, tx.meta)
        return Ports(tx.meta, SpecTable(tx), ProposalTable(tx), ChampionTable(tx), AuditTable(tx), arrivals, keys)

    return ports


class Desk:
    """What the HTTP door reads."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def approvals(self, state: str | None = None) -> list[dict[str, Any]]:
        """All requests, newest first; only those in `state` where one is given."""
        query = "SELECT request, state, reason, envelopes FROM proposals WHERE %s::text IS NULL OR state = %s ORDER BY rollout DESC"
        with self._pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(query, (state, state)).fetchall()
        return [
            row["request"] | {"state": row["state"], "reason": row["reason"], "approvers": _names(row["envelopes"])} for row in rows
        ]


def _proposal(request: dict[str, Any], state: Any, envelopes: list[list[str]], *further: Any) -> Proposal:
    signed = tuple((name, text) for name, text in envelopes)
    return Proposal(ApprovalRequested.model_validate(request), state, signed, *further)


def _names(envelopes: list[list[str]]) -> list[str]:
    return [name for name, _ in envelopes]
