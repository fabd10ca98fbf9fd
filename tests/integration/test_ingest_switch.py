"""R12 on the real broker: a switch stands in the log only by a decision that holds, once, and is said however often one dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Stack
from tests.integration.ingest_stream import Stream
from tests.unit.ingest import orders
from tests.unit.ingest.world import SECOND
from tests.waiting import until
from tidemill.bus.control_client import Publisher, read_all
from tidemill.events import ingest, log_header, spec
from tidemill.events.base import Event
from tidemill.store import Store

START = 1_000_000_000 * SECOND
LATER = 4_000_000_000 * SECOND


@pytest.fixture
def stream(stack: Stack, stream_name: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stream]:
    made = Stream(stack, stream_name, getattr(request, "param", {}))
    orders.generate(tmp_path)
    store = Store(made.settings.store_url)
    for rollout in range(1, 10):
        store.put_tree(orders.files(rollout))
    made.settings = made.settings.model_copy(update={"trust_dir": tmp_path / "pinned"})
    bundle = orders.with_model(made.bundle())
    say(made, spec.Applied(stream=made.name, digest=bundle.digest, author="t", content=bundle.to_json(), applied_at=0))
    yield made
    made.end()


def say(stream: Stream, *events: Event) -> None:
    with Publisher(stream.settings, "test") as publisher:
        for event in events:
            publisher.publish(event)


def said(stream: Stream, kind: type[Event]) -> dict[str, Any]:
    """This stream's events of a kind, by event id."""
    return {one.envelope.id: one.event for one in read_all(stream.settings, [kind]) if one.event.stream == stream.name}  # type: ignore[attr-defined]


def switches(stream: Stream, shard: int = 0) -> list[int]:
    """Log offsets of model switches."""
    batch = stream.log(shard)
    if batch is None or batch.log is None:
        return []
    return batch.offsets[np.flatnonzero(batch.log["kind"] == log_header.MODEL_SWITCHED)].tolist()


def test_a_switch_stands_at_its_time_in_a_replay_and_is_said_once_whoever_dies(stream: Stream, tmp_path: Path) -> None:
    order = orders.ordered(tmp_path, stream.name, effective=START + 50 * SECOND, expires=LATER)
    for source in ("a", "b"):
        stream.send(source, [stream.promise(source, START)])
    life = stream.start().ready()
    stream.send(
        "a", [*(stream.event("a", f"a{n}", START + n * SECOND) for n in range(50)), stream.promise("a", START + 50 * SECOND)]
    )
    say(stream, order, orders.prepared(order, 0))
    stream.send("b", [stream.promise("b", START + 50 * SECOND)])
    (offset,) = until(lambda: switches(stream), "the switch")
    found = until(lambda: said(stream, ingest.SwitchAppended), "that it is said")
    places = [(event.offset, event.run, event.partition, event.stream_time) for event in found.values()]
    assert places == [(offset, "r1", 0, START + 50 * SECOND)]
    stream.send("a", [stream.event("a", "next", START + 50 * SECOND), stream.promise("a", START + 60 * SECOND)])
    stream.send("b", [stream.promise("b", START + 60 * SECOND)])
    until(lambda: "next" in dict(stream.events()), "what comes after")
    batch = stream.log()
    assert batch is not None and batch.log is not None
    assert batch.log["kind"][-5:].tolist() == [
        log_header.EVENT,
        log_header.PROGRESSED,
        log_header.MODEL_SWITCHED,
        log_header.EVENT,
        log_header.PROGRESSED,
    ]
    life.kill()
    stream.start().ready()
    assert said(stream, ingest.SwitchAppended) == found
    assert switches(stream) == [offset]
    assert said(stream, ingest.SwitchRefused) == {}


def test_decisions_that_do_not_hold_change_nothing(stream: Stream, tmp_path: Path) -> None:
    stream.start().ready()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"signer": "mallory"}, "unknown-approver"),
        ({"signer": "training"}, "self-signed"),
        ({"expires": START}, "expired"),
        ({"artifact": "sha256:" + "00" * 32}, "other-subject"),
        ({"effective_at": START + SECOND}, "other-subject"),
    ]
    for n, (over, _) in enumerate(cases, 1):
        order = orders.ordered(tmp_path, stream.name, rollout=n, order=f"o{n}", **{"expires": LATER} | over)
        say(stream, order, orders.prepared(order, 0))
    until(lambda: len(said(stream, ingest.SwitchRefused)) == len(cases), "the refusals")
    reasons = {event.order: event.reason for event in said(stream, ingest.SwitchRefused).values()}
    assert reasons == {f"o{n}": reason for n, (_, reason) in enumerate(cases, 1)}
    assert switches(stream) == []


def test_an_approval_that_comes_after_the_request_was_rejected_or_lapsed_changes_nothing(stream: Stream, tmp_path: Path) -> None:
    life = stream.start().ready()
    first, second, third = (orders.ordered(tmp_path, stream.name, rollout=n, order=f"o{n}", expires=LATER) for n in (1, 2, 3))
    say(stream, orders.asked(first, deadline=LATER), orders.asked(second, deadline=START), orders.rejected(tmp_path, first))
    say(stream, *(orders.submitted(order.envelopes[0]) for order in (first, second)))
    say(stream, *(event for order in (first, second) for event in (orders.prepared(order, 0), order)))
    until(lambda: len(said(stream, ingest.SwitchRefused)) == 2, "the refusals")
    life.kill()
    stream.start().ready()  # which hears all of it again, and goes by it
    say(stream, orders.asked(third, deadline=LATER), orders.rejected(tmp_path, third, "mallory", keyid="bob"))
    say(stream, orders.submitted(third.envelopes[0]), third, orders.prepared(third, 0))
    until(lambda: said(stream, ingest.SwitchAppended), "the switch that holds")
    found = {event.order: event.reason for event in said(stream, ingest.SwitchRefused).values()}
    assert found == {"o1": "rejected", "o2": "lapsed"}
    assert len(switches(stream)) == 1


def test_a_replayed_order_changes_nothing(stream: Stream, tmp_path: Path) -> None:
    stream.start().ready()
    first = orders.ordered(tmp_path, stream.name, rollout=1, order="o1", expires=LATER)
    second = orders.ordered(tmp_path, stream.name, rollout=2, order="o2", expires=LATER)
    say(stream, first, orders.prepared(first, 0))
    until(lambda: len(switches(stream)) == 1, "the first switch")
    say(stream, second, orders.prepared(second, 0))
    until(lambda: len(switches(stream)) == 2, "the second switch")
    again = first.model_copy(update={"order": "o3"})
    say(stream, first, again, orders.prepared(again, 0))
    found = until(lambda: said(stream, ingest.SwitchRefused), "the refusal")
    assert [(event.reason, event.order) for event in found.values()] == [("stale-rollout", "o3")]
    assert len(switches(stream)) == 2


@pytest.mark.parametrize("stream", [{"shards": 2}], indirect=True)
def test_each_shards_log_has_each_switch_once(stream: Stream, tmp_path: Path) -> None:
    life = stream.start().ready()
    first = orders.ordered(tmp_path, stream.name, rollout=1, order="o1", expires=LATER)
    say(stream, first, orders.prepared(first, 0), orders.prepared(first, 1))
    found = until(lambda: len(both := said(stream, ingest.SwitchAppended)) == 2 and both, "both switches")
    assert {event.partition: event.offset for event in found.values()} == {n: switches(stream, n)[0] for n in (0, 1)}
    life.kill()
    stream.start().ready()
    second = orders.ordered(tmp_path, stream.name, rollout=2, order="o2", expires=LATER)
    say(stream, second, orders.prepared(second, 0, 1))
    until(lambda: len(said(stream, ingest.SwitchAppended)) == 4, "both second switches")
    assert [len(switches(stream, n)) for n in (0, 1)] == [2, 2]
    assert said(stream, ingest.SwitchRefused) == {}
