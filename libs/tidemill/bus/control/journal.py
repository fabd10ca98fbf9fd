"""The tables that make an event's effect happen once: where each topic stands, what was heard, what is to be said, what is due.

All functions work on the caller's transaction. Transactions of one service are serialised by a lock, so the outbox's numbers are in
the order of commits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection

from tidemill.bus.control.service import Due
from tidemill.errors import Rejected
from tidemill.events.dead import Record

SERIAL = 0x7469_6465_0001  # advisory locks; each service has a database of its own
LEADER = 0x7469_6465_0002
MIGRATING = 0x7469_6465_0003

TABLES = """
create schema if not exists control;
create table control.places (topic text, partition int, next bigint not null, primary key (topic, partition));
create table control.inbox (topic text, id text, heard timestamptz not null default now(), primary key (topic, id));
create table control.outbox (
    number bigint generated always as identity primary key,
    id text not null unique, topic text not null, partition int, key bytea, value bytea not null,
    header_names text[] not null, header_values bytea[] not null,
    written timestamptz not null default now(), sent timestamptz);
create index on control.outbox (number) where sent is null;
create table control.due (id text primary key, name text not null, subject text not null, payload text not null, at bigint not null,
    traceparent text);
create index on control.due (at);
create table control.parked (
    topic text, partition int, "offset" bigint, key bytea, value bytea, header_names text[] not null, header_values bytea[] not null,
    antecedent text not null, after text, since timestamptz not null default now(), primary key (topic, partition, "offset"));
create table control.lives (number bigint generated always as identity primary key, consumers text not null,
    born timestamptz not null default now());
"""

ADDED = "alter table control.inbox add column if not exists digest bytea"
"""What `TABLES`, which never change, lack. It has no number, since those behind `TABLES` are the service's: each start runs it.

Of what an earlier release heard there is no digest.
"""

_APPLIED = "create table if not exists public.tidemill_migrations (number int primary key, statement text not null)"


@dataclass(frozen=True, slots=True)
class Letter:
    """A record that is to be sent."""

    id: str
    topic: str
    partition: int | None
    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]]
    number: int = 0


def migrate(connection: Connection[Any], migrations: Sequence[str]) -> None:
    """Bring the database to the newest form; raises RuntimeError where an applied migration is not the one in the code."""
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(%s)", (MIGRATING,))
        connection.execute(_APPLIED)
        applied = [row[0] for row in connection.execute("select statement from public.tidemill_migrations order by number")]
        wanted = [TABLES, *migrations]
        if applied != wanted[: len(applied)]:
            raise RuntimeError("the database was migrated by other code: an applied migration must not change, add another one")
        for number, statement in enumerate(wanted[len(applied) :], len(applied)):
            connection.execute(statement.encode())
            connection.execute("insert into public.tidemill_migrations values (%s, %s)", (number, statement))
        connection.execute(ADDED)


def serialise(connection: Connection[Any]) -> None:
    """Wait for the service's other transactions; held to the end of this one."""
    connection.execute("select pg_advisory_xact_lock(%s)", (SERIAL,))


def lead(connection: Connection[Any]) -> bool:
    """Whether this connection is now (or already was) the service's leader; held as long as the connection lives."""
    row = connection.execute("select pg_try_advisory_lock(%s)", (LEADER,)).fetchone()
    return bool(row and row[0])


def new_life(connection: Connection[Any], group: str) -> list[str]:
    """Write down this life's consumer group; those of the lives before, the newest first."""
    rows = connection.execute("select consumers from control.lives order by number desc limit 20").fetchall()
    connection.execute("insert into control.lives (consumers) values (%s)", (group,))
    return [row[0] for row in rows]


def places(connection: Connection[Any]) -> dict[tuple[str, int], int]:
    """The next offset of each partition that was heard."""
    rows = connection.execute("select topic, partition, next from control.places")
    return {(topic, partition): following for topic, partition, following in rows}


def next_offset(connection: Connection[Any], topic: str, partition: int) -> int | None:
    """The next offset of one partition; None where nothing of it was heard."""
    query = "select next from control.places where topic = %s and partition = %s"
    row = connection.execute(query, (topic, partition)).fetchone()
    return row[0] if row else None


def advance(connection: Connection[Any], topic: str, partition: int, following: int) -> None:
    """Write that all before `following` was heard."""
    connection.execute(
        "insert into control.places values (%s, %s, %s) on conflict (topic, partition) do update set next = excluded.next",
        (topic, partition, following),
    )


def hear(connection: Connection[Any], topic: str, event_id: str, value: bytes = b"") -> bool:
    """Whether the event is heard for the first time; raises Rejected where one with another value was heard under its id."""
    digest = hashlib.sha256(value).digest()
    query = "insert into control.inbox (topic, id, digest) values (%s, %s, %s) on conflict do nothing"
    if connection.execute(query, (topic, event_id, digest)).rowcount == 1:
        return True
    query = "select 1 from control.inbox where topic = %s and id = %s and digest <> %s"
    if connection.execute(query, (topic, event_id, digest)).fetchone():
        raise Rejected("id-conflict", f"another event was heard under the id {event_id!r}; say this one under an id of its own")
    return False


def unhear(connection: Connection[Any], topic: str, event_id: str) -> None:
    """Give back an id that an earlier release took for a record as soon as it waited."""
    connection.execute("delete from control.inbox where topic = %s and id = %s and digest is null", (topic, event_id))


def say(connection: Connection[Any], letter: Letter) -> None:
    """Put a record into the outbox; one with the same id is there once."""
    names, values = [name for name, _ in letter.headers], [value for _, value in letter.headers]
    connection.execute(
        "insert into control.outbox (id, topic, partition, key, value, header_names, header_values)"
        " values (%s, %s, %s, %s, %s, %s, %s) on conflict (id) do nothing",
        (letter.id, letter.topic, letter.partition, letter.key, letter.value, names, values),
    )


def unsent(connection: Connection[Any], limit: int) -> list[Letter]:
    """The oldest records of the outbox that are not known to be sent."""
    rows = connection.execute(
        "select id, topic, partition, key, value, header_names, header_values, number"
        " from control.outbox where sent is null order by number limit %s",
        (limit,),
    )
    return [Letter(a, b, c, d, e, _headers(names, values), n) for a, b, c, d, e, names, values, n in rows]


def mark_sent(connection: Connection[Any], numbers: Sequence[int]) -> None:
    """Write that the broker has these records."""
    connection.execute("update control.outbox set sent = now() where number = any(%s)", (list(numbers),))


def plan(connection: Connection[Any], due: Due) -> None:
    """Write a timer down."""
    connection.execute(
        "insert into control.due values (%s, %s, %s, %s, %s, %s) on conflict (id) do nothing",
        (due.id, due.name, due.subject, due.payload, due.at, due.traceparent),
    )


def next_due(connection: Connection[Any]) -> Due | None:
    """The earliest timer."""
    row = connection.execute(
        "select id, name, subject, payload, at, traceparent from control.due order by at, id limit 1"
    ).fetchone()
    return Due(*row) if row else None


def take_due(connection: Connection[Any], due_id: str) -> bool:
    """Take a timer off; False where it has been taken."""
    return connection.execute("delete from control.due where id = %s", (due_id,)).rowcount == 1


def park(connection: Connection[Any], record: Record, antecedent: str, after: str | None) -> None:
    """Keep a record for later, or say anew what it waits for: something that a record of the topic `after` brings (None: of any)."""
    names, values = [name.replace("\0", "") for name, _ in record.headers], [value for _, value in record.headers]
    connection.execute(
        'insert into control.parked (topic, partition, "offset", key, value, header_names, header_values, antecedent, after)'
        ' values (%s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict (topic, partition, "offset")'
        " do update set antecedent = excluded.antecedent, after = excluded.after",
        (record.topic, record.partition, record.offset, record.key, record.value, names, values, antecedent, after),
    )


def parked(connection: Connection[Any], topic: str | None) -> list[tuple[Record, float]]:
    """The records that may go on after one of `topic` (None: all that wait), oldest first, with their age in seconds."""
    rows = connection.execute(
        'select topic, partition, "offset", key, value, header_names, header_values, extract(epoch from now() - since)::float8'
        ' from control.parked where after is null or after = coalesce(%s, after) order by since, topic, partition, "offset"',
        (topic,),
    )
    return [(Record(a, b, c, d, e, _headers(names, values)), age) for a, b, c, d, e, names, values, age in rows]


def unpark(connection: Connection[Any], record: Record) -> None:
    """Take a record from those that wait."""
    query = 'delete from control.parked where topic = %s and partition = %s and "offset" = %s'
    connection.execute(query, (record.topic, record.partition, record.offset))


def waits(connection: Connection[Any], record: Record) -> bool:
    """Whether a record is among those that wait."""
    query = 'select 1 from control.parked where topic = %s and partition = %s and "offset" = %s'
    return connection.execute(query, (record.topic, record.partition, record.offset)).fetchone() is not None


def waiting(connection: Connection[Any]) -> int:
    """How many records wait."""
    row = connection.execute("select count(*) from control.parked").fetchone()
    return int(row[0]) if row else 0


def _headers(names: list[str], values: list[bytes]) -> list[tuple[str, bytes]]:
    return list(zip(names, values, strict=True))


def prune(connection: Connection[Any], days: int) -> None:
    """Forget sent records of the outbox older than `days`."""
    connection.execute("delete from control.outbox where sent < now() - make_interval(days => %s)", (days,))
