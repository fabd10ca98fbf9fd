"""What an earlier release left in the databases is still there, and right, after the newest migration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import psycopg
import pytest

from services.governance import adapters as governance
from services.registry import adapters as registry
from services.registry.model import Request
from services.training import adapters as training
from services.training.model import Alert, Window
from tests.unit.registry.test_registry import requested
from tests.unit.training.synthetic import request
from tidemill.bus.control import Meta, Transaction, journal
from tidemill.events.training import PartitionEnd

Database = psycopg.Connection[Any]


@pytest.fixture
def database(stack: Any) -> Iterator[Database]:
    with psycopg.connect(stack.new_database()) as connection:
        yield connection


def test_the_registrys_aliases_belong_to_the_stream_of_their_version(database: Database) -> None:
    journal.migrate(database, registry.MIGRATIONS[:2])
    database.execute("INSERT INTO versions VALUES ('m', 1, 's', 'r1', '{}', 0)")
    database.execute("INSERT INTO aliases VALUES ('m', 'champion', 1)")
    journal.migrate(database, registry.MIGRATIONS)
    assert database.execute("SELECT stream, model, alias, version FROM aliases").fetchall() == [("s", "m", "champion", 1)]
    database.execute("INSERT INTO versions VALUES ('m', 1, 't', 'r2', '{}', 0)")


def test_what_the_registry_knew_as_approved_stays_so_beside_others_under_its_id(database: Database) -> None:
    journal.migrate(database, registry.MIGRATIONS[:3])
    asked = requested(1)
    query = "INSERT INTO requests (approval, approved, fact) VALUES (%s, true, %s)"
    database.execute(query, (asked.approval, asked.model_dump_json()))
    journal.migrate(database, registry.MIGRATIONS)
    requests = registry.RequestTable(Transaction(database, Meta("", 0, 0)))
    requests.add(requested(2))
    first, second = Request(asked, "approved"), Request(requested(2))
    assert list(requests.under(asked.approval).values()) == [first, second]
    requests.put(max(requests.under(asked.approval)), second.at("rejected", "no"))
    assert list(requests.under(asked.approval).values()) == [first, Request(requested(2), "rejected", "no")]


def test_what_an_earlier_release_has_heard_counts_as_heard_whatever_its_bytes_were(database: Database) -> None:
    journal.migrate(database, [])
    database.execute("alter table control.inbox drop column digest")
    database.execute("insert into control.inbox (topic, id) values ('t', 'heard')")
    for _ in range(2):
        journal.migrate(database, [])
    assert not journal.hear(database, "t", "heard", b"bytes")
    assert journal.hear(database, "t", "new", b"bytes")


def test_the_registrys_switches_serve_from_when_they_were_due(database: Database) -> None:
    journal.migrate(database, registry.MIGRATIONS[:4])
    database.execute("INSERT INTO switches VALUES ('s', 'm', 1, 1, 0, 40, 5, 'p', 'r')")
    journal.migrate(database, registry.MIGRATIONS)
    assert database.execute("SELECT stream_time, effective_at FROM switches").fetchall() == [(5, 5)]


def test_the_registrys_requests_are_as_far_as_an_earlier_release_kept_it(database: Database) -> None:
    journal.migrate(database, registry.MIGRATIONS[:5])
    for number, (approval, approved) in enumerate({"open": False, "ended": False, "approved": True, "served": True}.items()):
        fact = json.dumps({"stream": "s", "model": "m", "version": number})
        database.execute("INSERT INTO requests (approval, approved, fact) VALUES (%s, %s, %s)", (approval, approved, fact))
    database.execute(
        "INSERT INTO aliases (stream, model, alias, version) VALUES ('s', 'm', 'candidate', 0), ('t', 'm', 'candidate', 1)"
    )
    database.execute("INSERT INTO switches VALUES ('s', 'm', 3, 1, 0, 40, 5, 'served', 'r', 5)")
    journal.migrate(database, registry.MIGRATIONS)
    states = dict(database.execute("SELECT approval, state FROM requests").fetchall())
    assert states == {"open": "open", "ended": "lapsed", "approved": "approved", "served": "served"}


def test_governances_requests_and_champions_belong_to_their_stream(database: Database) -> None:
    journal.migrate(database, governance.MIGRATIONS[:1])
    request = json.dumps({"stream": "s"})
    database.execute("INSERT INTO proposals VALUES ('p', 'm', 1, 1, 'open', '', %s, '[]')", (request,))
    database.execute("INSERT INTO champions VALUES ('m', 1)")
    journal.migrate(database, governance.MIGRATIONS)
    assert database.execute("SELECT stream, model, version FROM champions").fetchall() == [("s", "m", 1)]
    query = "INSERT INTO proposals (approval, stream, model, version, rollout, state, reason, request, envelopes)"
    database.execute(query + " VALUES ('q', 't', 'm', 1, 1, 'open', '', '{}', '[]')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.execute(query + " VALUES ('z', 't', 'm', 2, 2, 'open', '', '{}', '[]')")


def test_an_approved_version_that_came_to_serve_earlier_is_not_waited_for(database: Database) -> None:
    journal.migrate(database, governance.MIGRATIONS[:2])
    for version in (1, 2, 3):
        database.execute(
            "INSERT INTO proposals (approval, stream, model, version, rollout, state, reason, request, envelopes)"
            " VALUES (%s, 's', 'm', %s, %s, 'approved', '', '{}', '[]')",
            (f"p{version}", version, version),
        )
    database.execute("INSERT INTO champions (stream, model, version) VALUES ('s', 'm', 2)")
    journal.migrate(database, governance.MIGRATIONS)
    found = database.execute("SELECT approval FROM proposals WHERE NOT answered").fetchall()
    assert found == [("p3",)]


def test_who_wrote_each_spec_is_known_from_the_audit_chain(database: Database) -> None:
    journal.migrate(database, governance.MIGRATIONS[:3])
    for number, (author, digest) in enumerate((("ann", "d1"), ("bob", "d2"), ("bob", "d1"))):
        fact = {"kind": "spec-applied", "subject": "s", "detail": json.dumps({"digest": digest, "author": author})}
        database.execute("INSERT INTO audit VALUES (%s, %s)", (number, json.dumps(fact)))
    database.execute("INSERT INTO audit VALUES (3, %s)", (json.dumps({"kind": "gate-failed", "subject": "m/1", "detail": "{}"}),))
    journal.migrate(database, governance.MIGRATIONS)
    specs = governance.SpecTable(Transaction(database, Meta("", 0, 0)))
    assert [specs.author("s", digest) for digest in ("d1", "d2", "d3")] == ["ann", "bob", None]


def test_an_open_run_ends_where_its_first_attempt_from_now_on_finds_it(database: Database) -> None:
    journal.migrate(database, training.MIGRATIONS[:1])
    database.execute(
        "INSERT INTO runs (run, stream, model, cause_id, at_time, effective_at, request, attempts) VALUES ('r', 's', 'm', 'c', 0, 0, %s, 1)",
        (request(0).model_dump_json(),),
    )
    journal.migrate(database, training.MIGRATIONS)
    leases, found = training.Leases(Transaction(database, Meta("", 0, 0)), "worker"), []
    for end in (7, 9):
        claim = leases.claim("r", [PartitionEnd(partition=1, end=end)])
        assert claim is not None
        found.append((claim.attempt, claim.ends))
        leases.give_up("r", crashed=False)
    assert found == [(2, [PartitionEnd(partition=1, end=7)]), (3, [PartitionEnd(partition=1, end=7)])]


def test_trainings_newest_window_is_that_of_its_shard(database: Database) -> None:
    journal.migrate(database, training.MIGRATIONS[:1])
    window = Window("s", "m", 1, 10, 20, 5, 700, None, (Alert("a", "drift"),))
    database.execute("INSERT INTO windows VALUES ('s', 'm', 0, 20, %s)", (json.dumps(asdict(window)),))
    journal.migrate(database, training.MIGRATIONS)
    tx = Transaction(database, Meta("", 0, 0))
    windows, older, newer = training.WindowTable(tx), replace(window, partition=0, end=15), replace(window, end=30, labels=800)
    assert windows.newest("s", "m") == [window]
    for one in (older, newer, window):
        windows.put(one)
    assert windows.newest("s", "m") == [newer, older]
    assert training.RunTable(tx).history("s", "m").begin == 0
