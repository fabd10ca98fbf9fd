"""Model switches between the control plane and one shard's log (R12)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from services.ingest import handlers
from services.ingest.adapters.control import Catalogue
from services.ingest.handlers import Judges
from services.ingest.model import State, Switch, Switched
from services.ingest.orders import Order
from tidemill import telemetry
from tidemill.bus.control_client import Publisher
from tidemill.events.base import Event
from tidemill.events.log import ModelSwitched
from tidemill.models.artifact import requested_by
from tidemill.store import Store
from tidemill.trust.keys import KeyRing

logger = logging.getLogger(__name__)


class Switches:
    """Which orders may become switches now, and what is said of them."""

    def __init__(self, catalogue: Catalogue, publisher: Publisher, trust: Path, store: Store) -> None:
        """`trust` is the folder of pinned public keys."""
        self._catalogue, self._publisher, self._trust, self._store = catalogue, publisher, trust, store

    def due(self, state: State, shards: int, now: int) -> list[Switch]:
        """Those that may go into the log; refusals are said. `now`: wall time, us. Raises Transient."""
        rollouts = self._catalogue.rollouts(state.stream)
        with self._catalogue.lock:
            if not rollouts.open(state.shard):
                return []
            judges = Judges(KeyRing.load(self._trust), partial(requested_by, self._store))
            found = handlers.ready(rollouts, state, judges, shards, now)
        for order, reason in found.refused:
            self._refuse(order, state, reason)
        return found.switches

    @contextmanager
    def span(self, switch: ModelSwitched) -> Iterator[telemetry.ControlSpan]:
        """The piece of work that appends a switch, in the trace of its order."""
        order = self._order(switch)
        with telemetry.control_span("append switch", order.traceparent if order else None, telemetry.facts_of(switch)) as span:
            yield span

    def appended(self, found: Switched, partition: int, span: telemetry.ControlSpan | None = None) -> None:
        """Say that the switch is in the log; saying it again is the same event. Raises Transient."""
        order = self._order(found.event)
        event_id, said = handlers.appended(found, partition)
        self._say(event_id, said, order, span)
        if order is not None:
            self._settle(order, partition)

    def refused(self, switch: ModelSwitched, state: State, reason: str) -> None:
        """Say that the switch came too late. Raises Transient."""
        order = self._order(switch)
        if order is not None:
            self._refuse(order, state, reason)

    def _refuse(self, order: Order, state: State, reason: str) -> None:
        logger.warning("switch refused", extra={"order": order.said.order, "model": order.said.model, "reason": reason})
        if state.shard == 0:  # one answer is enough
            with telemetry.control_span("refuse switch", order.traceparent, telemetry.facts_of(order.said, order.id)) as span:
                self._say(*handlers.refused(order, reason), order, span)
        self._settle(order, state.shard)

    def _say(self, event_id: str, said: Event, order: Order | None, span: telemetry.ControlSpan | None) -> None:
        traceparent = span.traceparent if span else order.traceparent if order else None
        self._publisher.publish(said, event_id, cause=order.id if order else None, traceparent=traceparent)

    def _order(self, switch: ModelSwitched) -> Order | None:
        with self._catalogue.lock:
            return self._catalogue.rollouts(switch.stream).of(switch)

    def _settle(self, order: Order, shard: int) -> None:
        with self._catalogue.lock:
            handlers.settle(self._catalogue.rollouts(order.said.stream), order, shard)
