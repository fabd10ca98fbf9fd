"""Control events: specs and rollout orders are heard by a thread of their own, answers are said by the shard's loop."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from services.ingest import handlers, specs
from services.ingest.adapters.following import Following
from services.ingest.handlers import Rollouts
from services.ingest.orders import Decision, Order
from tidemill.bus.control_client import Follower, Heard
from tidemill.bus.metrics import SPECS_REFUSED
from tidemill.errors import Refused, Rejected
from tidemill.events import governance, serving, spec
from tidemill.events.schema_registry import Registry
from tidemill.spec import Bundle
from tidemill.trust.decision import submitted

if TYPE_CHECKING:
    from tidemill.settings import Settings

logger = logging.getLogger(__name__)

_KINDS = (
    spec.Applied,
    governance.ApprovalRequested,
    governance.DecisionSubmitted,
    governance.RolloutOrdered,
    serving.ModelPrepared,
    serving.ModelRefused,
)


class Catalogue:
    """What the control plane has said: the newest spec that each stream can follow, its rollout orders, what people signed.

    Safe for threads.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.caught_up = threading.Event()
        self._bundles: dict[str, Bundle] = {}
        self._rollouts: dict[str, Rollouts] = {}

    @property
    def streams(self) -> list[str]:
        """Those that a spec was applied for."""
        return sorted(self._bundles)

    def bundle(self, stream: str) -> Bundle | None:
        """The stream's newest spec of those that can be followed."""
        return self._bundles.get(stream)

    def rollouts(self, stream: str) -> Rollouts:
        """The stream's orders; to be used under `lock`."""
        with self.lock:
            return self._rollouts.setdefault(stream, Rollouts())

    def hear(self, heard: Heard) -> None:
        """Take one control event."""
        event = heard.event
        with self.lock:
            if isinstance(event, spec.Applied):
                self._apply(event)
            elif isinstance(event, governance.RolloutOrdered):
                order = Order(event, heard.envelope.id, heard.envelope.traceparent, heard.at, self.caught_up.is_set())
                handlers.on_rollout_ordered(order, self.rollouts(event.stream))
            elif isinstance(event, governance.ApprovalRequested):
                handlers.on_approval_requested(event, heard.at, self.rollouts(event.stream))
            elif isinstance(event, governance.DecisionSubmitted):
                self._decided(event, heard.at)
            elif isinstance(event, serving.ModelPrepared):
                handlers.on_model_prepared(event, self.rollouts(event.stream))
            elif isinstance(event, serving.ModelRefused):
                handlers.on_model_refused(event, self.rollouts(event.stream))

    def _decided(self, event: governance.DecisionSubmitted, at: int) -> None:
        with suppress(Refused):  # governance, which it is said to, answers it
            decision = Decision(event.envelope, submitted(event), at)
            handlers.on_decision_submitted(decision, self.rollouts(decision.said.predicate.stream))

    def _apply(self, event: spec.Applied) -> None:
        try:
            self._bundles[event.stream] = specs.followed(event, self.bundle(event.stream))
        except Rejected as error:  # the stream keeps its spec
            SPECS_REFUSED.labels(event.stream).inc()
            logger.error("spec not followed", extra={"stream": event.stream, "digest": event.digest, "error": error.message})


class Listener(Following):
    """Follows the control topics from their begin into a catalogue."""

    def __init__(self, settings: Settings, registry: Registry, catalogue: Catalogue) -> None:
        super().__init__("control", settings, registry, _KINDS, "begin")
        self._catalogue = catalogue

    def hear(self, heard: Heard) -> None:
        """Tell the catalogue."""
        self._catalogue.hear(heard)

    def looked(self, follower: Follower) -> None:
        """Tell the catalogue when it has heard all that was there."""
        if follower.caught_up:
            self._catalogue.caught_up.set()
