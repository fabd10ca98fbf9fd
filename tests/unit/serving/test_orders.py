"""What serving prepares, what it says of it, and how long it keeps it in memory (R12)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from services.serving.model import State
from services.serving.orders import Orders
from services.serving.scorers import Scorers
from tests.unit.serving import scene
from tests.unit.serving.scene import Trust
from tidemill.bus.control_client import Heard
from tidemill.bus.running import Running
from tidemill.events.envelope import Envelope
from tidemill.events.governance import RolloutOrdered
from tidemill.events.serving import ModelPrepared, ModelRefused
from tidemill.models import artifact
from tidemill.models.rollout import Roster, content_of

SHARED = (
    "stream",
    "model",
    "version",
    "artifact",
    "report",
    "rollout",
    "action",
    "order",
    "approval",
    "run",
    "expires",
    "envelopes",
)


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return Trust.made(tmp_path_factory.mktemp("trust"))


def order(trust: Trust, version: int, rollout: int, lie: dict[str, Any] | None = None) -> RolloutOrdered:
    switch = trust.switch(version, rollout, lie)
    more = {"fallback": None, "group": "g", "required": 1, "requester": "training", "author": "carol", "effective_at": 0}
    return RolloutOrdered.model_validate({name: getattr(switch, name) for name in SHARED} | more)


@dataclass
class Site:
    """The sidecar between a control topic and shards that the test drives round by round."""

    trust: Trust
    partitions: tuple[int, ...] = (0,)
    store: scene.Store = field(default_factory=scene.Store)
    said: list[Any] = field(default_factory=list)
    rounds: int = 0

    def __post_init__(self) -> None:
        self.scorers = Scorers(self.store)
        self.states = {("small", n): State(Roster("small", scene.bundle().to_json())) for n in self.partitions}
        workers: Any = {shard: SimpleNamespace(state=state) for shard, state in self.states.items()}
        self.running: Running[State] = Running(threading.Event(), workers)
        self.workers = workers

    def run(self, *rounds: Callable[[], list[RolloutOrdered]]) -> list[Any]:
        """What is said while these rounds bring orders; each is called before the sidecar looks again."""
        coming, site = iter([*rounds, list]), self

        class Follower:
            def poll(self, _: float) -> list[Heard]:
                try:
                    return [_heard(one) for one in next(coming)()]
                except StopIteration:
                    site.running.stop.set()
                    return []

        class Publisher:
            def publish(self, event: Any, event_id: str, **_: Any) -> str:
                site.said.append(event)
                return event_id

        orders = Orders(_always(Follower()), _always(Publisher()), self.scorers, self.trust.ring, "w")  # type: ignore[arg-type]
        ended = threading.Event()
        answering = threading.Thread(target=self._answer, args=(ended,), daemon=True)
        answering.start()
        orders.run(self.running)
        ended.set()
        answering.join()
        return self.said

    def switch(self, version: int, rollout: int) -> None:
        """The stream's own switch, in every shard."""
        for state in self.states.values():
            state.roster = state.roster.switched(self.trust.switch(version, rollout), (0, 0, 0), self.trust.ring)

    def _answer(self, ended: threading.Event) -> None:
        """What the shards' loop does, as long as the sidecar may ask."""
        while not ended.wait(0.001):
            self.running.answer()


def _always(value: Any) -> Callable[[], Any]:
    @contextmanager
    def entered() -> Iterator[Any]:
        yield value

    return entered


def _heard(said: RolloutOrdered) -> Heard:
    return Heard(said, Envelope(id=f"event-{said.order}"), "governance.rollout-ordered.v1", 0, 0, 0)


def test_an_order_is_prepared_and_said_once_for_all_partitions_here(trust: Trust) -> None:
    site = Site(trust, partitions=(0, 2))
    (said,) = site.run(lambda: [order(trust, 1, 1)], list, list)
    assert isinstance(said, ModelPrepared)
    assert (said.partitions, said.version, said.order) == ([0, 2], 1, "o1")


def test_it_is_said_again_when_another_partition_comes(trust: Trust) -> None:
    site = Site(trust)

    def another() -> list[RolloutOrdered]:
        site.workers["small", 1] = SimpleNamespace(state=site.states["small", 0])
        return []

    assert [said.partitions for said in site.run(lambda: [order(trust, 1, 1)], list, another)] == [[0], [0, 1]]


@pytest.mark.parametrize("lie", [{"version": 9}, {"author": "ann"}, {"verdict": "reject"}])
def test_what_is_not_decided_is_refused_and_never_loaded(trust: Trust, lie: dict[str, Any]) -> None:
    site = Site(trust)
    (said,) = site.run(lambda: [order(trust, 1, 1, lie)], list)
    assert isinstance(said, ModelRefused)
    assert len(site.scorers) == 0


def test_who_requested_the_run_by_the_artifacts_own_lineage_does_not_approve_what_came_of_it(trust: Trust) -> None:
    """The order and its decision claim that training did."""
    store, asked = scene.Store(), order(trust, 1, 1)
    store.trees[asked.artifact] |= {artifact.LINEAGE: b'{"requester": "ann"}'}
    (said,) = Site(trust, store=store).run(lambda: [asked], list)
    assert isinstance(said, ModelRefused)
    assert said.reason.startswith("self-signed")


def test_a_forged_order_under_the_id_of_a_genuine_one_takes_nothing_from_it(trust: Trust) -> None:
    forged, genuine = order(trust, 1, 1, {"verdict": "reject"}), order(trust, 1, 1)
    said = Site(trust).run(lambda: [forged], list, lambda: [genuine], list)
    assert [type(one) for one in said] == [ModelRefused, ModelPrepared]
    assert [one.content for one in said] == [content_of(forged), content_of(genuine)]


def test_what_an_order_has_prepared_is_kept_until_the_stream_switches_or_a_newer_order_comes(trust: Trust) -> None:
    site, kept = Site(trust), []

    def look(*orders: RolloutOrdered, rollout: int = 0) -> Callable[[], list[RolloutOrdered]]:
        def looked() -> list[RolloutOrdered]:
            kept.append(sorted(int(artifact[-1]) for artifact in site.scorers))
            if rollout:
                site.switch(rollout, rollout)
            return list(orders)

        return looked

    first, second, third = (order(trust, n, n) for n in (1, 2, 3))
    site.run(look(first), look(rollout=1), look(), look(second, third), look(), look(rollout=3), look())
    assert kept == [[], [1], [], [], [3], [3], []]
