"""The sidecar that prepares versions before they are switched to (R12)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from services.serving.model import State
from services.serving.scorers import Scorers
from tidemill import telemetry
from tidemill.bus.control_client import Follower, Heard, Publisher
from tidemill.bus.running import Running
from tidemill.errors import Refused, Rejected, Transient
from tidemill.events.base import Event
from tidemill.events.governance import RolloutOrdered
from tidemill.events.identity import event_id
from tidemill.events.serving import ModelPrepared, ModelRefused
from tidemill.models.rollout import Roster, content_of, decided
from tidemill.models.scorer import Scorer
from tidemill.trust.keys import KeyRing

logger = logging.getLogger(__name__)


@dataclass
class Orders:
    """Hears rollout orders; fetches, verifies and loads what they name; says for which partitions it is ready."""

    follower: Callable[[], Follower]
    publisher: Callable[[], Publisher]
    scorers: Scorers
    ring: KeyRing
    worker: str
    _open: dict[str, Heard] = field(default_factory=dict)
    """By what they say, see `content_of`."""
    _said: dict[str, set[int]] = field(default_factory=dict)
    _ready: dict[tuple[str, str], Scorer] = field(default_factory=dict)
    """By stream and model: what its newest open order has asked to prepare, until the stream switches."""

    def run(self, running: Running[State]) -> None:
        """Until the service ends."""
        with self.follower() as follower, self.publisher() as publisher:
            while not running.stop.is_set():
                self._hear(follower)
                for content, heard in list(self._open.items()):
                    self._consider(content, heard, running, publisher)

    def _hear(self, follower: Follower) -> None:
        try:
            self._open |= {content_of(one.event): one for one in follower.poll(0.1) if isinstance(one.event, RolloutOrdered)}
        except Transient as error:
            logger.warning("waiting", extra={"why": str(error)})

    def _consider(self, content: str, heard: Heard, running: Running[State], publisher: Publisher) -> None:
        """Prepare an order for the partitions that are folded here and were not told of yet; forget one that is overtaken."""
        ordered = heard.event
        assert isinstance(ordered, RolloutOrdered)
        mine = {partition for stream, partition in running.owned() if stream == ordered.stream}
        if not mine:
            return
        fresh = mine - self._said.get(content, set())
        try:
            roster = running.ask(ordered.stream, min(fresh or mine), lambda state: state.roster)
        except (KeyError, TimeoutError):
            return  # the partition is on its way to another worker, or a long batch is under way: next time
        if ordered.rollout <= roster.of(ordered.model).rollout:
            self._forget(content, ordered)  # switched, or overtaken by a later one
        elif fresh and ordered.model in roster.models and self._say(publisher, heard, self._judge(ordered, roster, mine)):
            self._said[content] = mine

    def _forget(self, content: str, ordered: RolloutOrdered) -> None:
        del self._open[content]
        self._said.pop(content, None)
        self._ready.pop((ordered.stream, ordered.model), None)

    def _judge(self, ordered: RolloutOrdered, roster: Roster, partitions: set[int]) -> Event:
        """Verify and load; what is to be said of it."""
        try:
            decision = decided(ordered, roster.bundle, self.ring)
            scorer = self._ready[ordered.stream, ordered.model] = self.scorers.load(ordered.artifact)
            decision.check_requester(scorer.requester)
        except (Refused, Rejected) as error:
            logger.error("order refused", extra={"order": ordered.order, "reason": error.reason, "why": error.message})
            return ModelRefused(**self._about(ordered), reason=f"{error.reason}: {error.message}")
        return ModelPrepared(**self._about(ordered), partitions=sorted(partitions))

    def _about(self, ordered: RolloutOrdered) -> dict[str, object]:
        names = ("stream", "model", "version", "artifact", "rollout", "order")
        return {name: getattr(ordered, name) for name in names} | {"worker": self.worker, "content": content_of(ordered)}

    def _say(self, publisher: Publisher, heard: Heard, event: Event) -> bool:
        partitions = ",".join(map(str, getattr(event, "partitions", ())))
        said = event_id(heard.envelope.id, event.ce_type(), f"{self.worker}/{partitions}")
        facts = telemetry.facts_of(event, said)
        try:
            with telemetry.control_span(f"process {heard.topic}", cause=heard.envelope.traceparent, attributes=facts) as span:
                publisher.publish(event, said, cause=heard.envelope.id, traceparent=span.traceparent)
        except Transient as error:
            logger.warning("waiting", extra={"why": str(error)})
            return False
        return True
