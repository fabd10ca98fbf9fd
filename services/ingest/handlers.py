"""What ingest hears of the control plane, and which switches follow from it (R12, R14)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import get_args

from services.ingest.model import State, Switch, Switched
from services.ingest.orders import Decision, Order, Requests
from tidemill.errors import Refused, Rejected
from tidemill.events import governance, ingest, serving
from tidemill.events.identity import event_id
from tidemill.events.log import ModelSwitched, SwitchAction
from tidemill.models.rollout import decided, signer
from tidemill.spec import Bundle
from tidemill.trust.decision import Subject, Verified
from tidemill.trust.keys import KeyRing


@dataclass
class Rollouts:
    """The rollout orders of one stream, and what serving says of them."""

    orders: dict[str, Order] = field(default_factory=dict)
    """By content."""
    prepared: dict[str, set[int]] = field(default_factory=dict)
    """By the order's content: the partitions whose workers are ready."""
    declined: dict[str, str] = field(default_factory=dict)
    """By the order's content: why serving will not load it."""
    requests: Requests = field(default_factory=Requests)
    checked: dict[tuple[str, str], Verified | str] = field(default_factory=dict)
    """By the order's content and spec digest, the decision or why it does not hold: signatures are verified once."""
    held: dict[tuple[str, Subject, str], bool] = field(default_factory=dict)
    """By envelope, what it is to be about and spec digest, whether one who may decide has signed it."""
    _open: dict[int, dict[str, Order]] = field(default_factory=dict)

    def add(self, order: Order) -> None:
        """Keep an order; said again, it is the same."""
        if order.content not in self.orders:
            self.orders[order.content] = order
            for shard in self._open.values():
                shard[order.content] = order

    def of(self, switch: ModelSwitched) -> Order | None:
        """The order that became the switch; None before it was heard."""
        return next((order for order in self.orders.values() if order.became(switch)), None)

    def open(self, shard: int) -> dict[str, Order]:
        """By content, the orders that have no answer of this shard yet: each shard's log is to have the switch."""
        return self._open.setdefault(shard, dict(self.orders))


@dataclass(frozen=True)
class Judges:
    """Who is asked whether a decision holds."""

    ring: KeyRing
    """This process's own pinned keys."""
    requester: Callable[[str], str]
    """Who requested the run behind an artifact, by the artifact's own lineage. Raises Rejected, Transient."""


@dataclass(frozen=True)
class Ready:
    """What can be done now."""

    switches: list[Switch]
    refused: list[tuple[Order, str]]


def on_rollout_ordered(order: Order, rollouts: Rollouts) -> None:
    """Keep the order until each shard's log has it or refuses it."""
    rollouts.add(order)


def on_approval_requested(event: governance.ApprovalRequested, at: int, rollouts: Rollouts) -> None:
    """Keep what people are asked, and when the broker took it: its deadline binds those who answer."""
    rollouts.requests.ask(event, at)


def on_decision_submitted(decision: Decision, rollouts: Rollouts) -> None:
    """Keep what somebody has signed: no later signature makes an order of a request that was rejected, or that has lapsed."""
    rollouts.requests.decide(decision)


def on_model_prepared(event: serving.ModelPrepared, rollouts: Rollouts) -> None:
    """A serving worker has fetched, verified and loaded the version, for its partitions."""
    rollouts.prepared.setdefault(event.content, set()).update(event.partitions)


def on_model_refused(event: serving.ModelRefused, rollouts: Rollouts) -> None:
    """A serving worker will not load it."""
    rollouts.declined.setdefault(event.content, event.reason)


def ready(rollouts: Rollouts, state: State, judges: Judges, partitions: int, now: int) -> Ready:
    """The orders that may become switches, and those that never will, with the reason. `now`: wall time, us. Raises Transient."""
    found = Ready([], [])
    for order in list(rollouts.open(state.shard).values()):
        judged = _judge(order, rollouts, state, judges, partitions, now)
        if isinstance(judged, Switch):
            found.switches.append(judged)
        elif judged == _SILENT:
            settle(rollouts, order, state.shard)
        elif judged:
            found.refused.append((order, judged))
    return found


def settle(rollouts: Rollouts, order: Order, shard: int) -> None:
    """The order has its answer of this shard."""
    rollouts.open(shard).pop(order.content, None)


def appended(found: Switched, partition: int) -> tuple[str, ingest.SwitchAppended]:
    """What to say of a switch in the log: the same event, by its id, however often it is said."""
    switch, place = found.event, {"partition": partition, "offset": found.offset, "stream_time": found.time}
    shared = switch.model_dump(include=set(ingest.SwitchAppended.model_fields) - set(place))
    said = ingest.SwitchAppended.model_validate(place | shared)
    return event_id(switch.order, ingest.SwitchAppended.ce_type(), f"{switch.stream}/{partition}"), said


def refused(order: Order, reason: str) -> tuple[str, ingest.SwitchRefused]:
    """What to say of an order that will not become a switch."""
    fields = set(ingest.SwitchRefused.model_fields) - {"reason"}
    said = ingest.SwitchRefused(reason=reason, **order.said.model_dump(include=fields))
    return event_id(order.content, ingest.SwitchRefused.ce_type(), said.stream), said


_SILENT = "-"


def _judge(order: Order, rollouts: Rollouts, state: State, judges: Judges, partitions: int, now: int) -> Switch | str:
    """A switch, the reason of a refusal, or nothing yet."""
    said = order.said
    newest = state.switches.get(said.model)
    if newest is not None and said.rollout <= newest.event.rollout:
        return "stale-rollout" if order.fresh and not order.became(newest.event) else _SILENT
    checked = _checked(order, rollouts, state.bundle, judges)
    if isinstance(checked, str):
        return checked
    if now > checked.expires:
        return "expired"
    if ended := rollouts.requests.ended(order, partial(_holds, rollouts, state.bundle, judges)):
        return ended
    if order.content in rollouts.declined:
        return f"serving: {rollouts.declined[order.content]}"
    if rollouts.prepared.get(order.content, set()) >= set(range(partitions)):
        return Switch(_switched(said, checked))
    return ""


def _checked(order: Order, rollouts: Rollouts, bundle: Bundle | None, judges: Judges) -> Verified | str:
    key = (order.content, bundle.digest if bundle else "")
    if key not in rollouts.checked:
        try:
            rollouts.checked[key] = _verified(order.said, bundle, judges)
        except (Refused, Rejected) as error:
            rollouts.checked[key] = error.reason
    return rollouts.checked[key]


def _verified(said: governance.RolloutOrdered, bundle: Bundle | None, judges: Judges) -> Verified:
    """The decision, unless it does not hold. Who requested the run is asked of the artifact, since no event that says it is signed."""
    if said.action not in get_args(SwitchAction):
        raise Refused("unknown-action", f"{said.action!r} is none of {', '.join(get_args(SwitchAction))}")
    found = decided(said, bundle, judges.ring)
    found.check_requester(judges.requester(said.artifact))
    return found


def _holds(
    rollouts: Rollouts,
    bundle: Bundle | None,
    judges: Judges,
    text: str,
    about: governance.ApprovalRequested | governance.RolloutOrdered,
) -> bool:
    """Whether one who may decide has signed an envelope about this: neither the spec's author nor who requested the run."""
    key = (text, Subject.of(about), bundle.digest if bundle else "")
    if key not in rollouts.held:
        try:
            rollouts.held[key] = signer(text, about, bundle, judges.ring) != judges.requester(about.artifact)
        except (Refused, Rejected):
            rollouts.held[key] = False
    return rollouts.held[key]


def _switched(said: governance.RolloutOrdered, verified: Verified) -> ModelSwitched:
    place = {"seq": 0.0, "position": -1.0, "stream_time": 0.0, "expires": verified.expires}
    shared = said.model_dump(include=set(ModelSwitched.model_fields) - set(place))
    return ModelSwitched.model_validate(place | shared)
