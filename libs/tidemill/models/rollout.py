"""Who serves, as the stream itself says it: the adopted spec and, per model, the seats that switches have given.

Serving acts on it and monitoring measures by it; both ask the same function, so they agree on every switch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from tidemill.errors import Refused
from tidemill.events.base import Event
from tidemill.events.governance import ApprovalRequested, RolloutOrdered
from tidemill.events.log import ModelSwitched, SpecAdopted
from tidemill.spec.bundle import Bundle
from tidemill.spec.model import ModelSpec
from tidemill.trust.decision import Policy, Subject, Verified, verify, verify_one
from tidemill.trust.keys import KeyRing


@dataclass(frozen=True)
class Seat:
    """A version in service."""

    version: int
    artifact: str
    link: tuple[int, int, int] = (0, 0, 0)
    """The span of the switch that seated it, as `telemetry.link` gives it."""


@dataclass(frozen=True)
class Seats:
    """One model's versions in service."""

    champion: Seat | None = None
    first: Seat | None = None
    """The first champion there ever was, unless it was revoked."""
    rollout: int = 0
    """The highest rollout number that was accepted: lower ones are void (R12)."""

    def after(self, switch: ModelSwitched, link: tuple[int, int, int]) -> Seats:
        """The seats behind a switch that holds.

        `promote` and `rollback` seat the named version; `revoke` takes it from every seat and puts nobody in its place.
        """
        if switch.action == "revoke":
            left = {name: _unless(seat, switch.version) for name, seat in (("champion", self.champion), ("first", self.first))}
            return replace(self, rollout=switch.rollout, **left)
        seat = Seat(switch.version, switch.artifact, link)
        return Seats(seat, seat if self.rollout == 0 else self.first, switch.rollout)

    def shadow(self, model: ModelSpec) -> Seat | None:
        """The version that scores silently beside the champion: the first one, once it was replaced, where the model file asks for it."""
        if model.rollout.shadow != "first" or not self.champion or not self.first:
            return None
        return None if self.first.version == self.champion.version else self.first


@dataclass(frozen=True)
class Roster:
    """A stream's adopted spec, and its models' seats. Immutable; what is said of a model outlives its absence from the spec."""

    stream: str
    content: str = ""
    """The adopted bundle's JSON; empty before the first."""
    seats: Mapping[str, Seats] = field(default_factory=dict)

    @cached_property
    def bundle(self) -> Bundle | None:
        """The adopted spec."""
        return Bundle.from_json(self.content) if self.content else None

    @property
    def models(self) -> Mapping[str, ModelSpec]:
        """The models of the spec, by name."""
        return self.bundle.models if self.bundle else {}

    def of(self, model: str) -> Seats:
        """A model's seats; empty ones before its first switch."""
        return self.seats.get(model, Seats())

    def artifacts(self) -> set[str]:
        """The digests of all artifacts that score: of each model's champion, and of its shadow where it has one."""
        seats = [seat for name, model in self.models.items() for seat in (self.of(name).champion, self.of(name).shadow(model))]
        return {seat.artifact for seat in seats if seat}

    def adopted(self, content: str) -> Roster:
        """The roster under another spec."""
        return replace(self, content=content)

    def turned(self, said: Event, link: tuple[int, int, int], ring: KeyRing) -> Roster:
        """The roster behind any record; only adopted specs and switches change it. Refused as `switched`."""
        if isinstance(said, SpecAdopted):
            return self.adopted(said.content)
        return self.switched(said, link, ring) if isinstance(said, ModelSwitched) else self

    def switched(self, switch: ModelSwitched, link: tuple[int, int, int], ring: KeyRing) -> Roster:
        """The roster behind a switch. Refused, with the reason, where it does not hold: then nothing changes.

        Whether the decision has expired is not asked: that was judged once, when the switch was appended (R12).
        """
        seats = self.of(switch.model)
        check_switch(switch, self.bundle, seats.rollout, ring)
        return replace(self, seats={**self.seats, switch.model: seats.after(switch, link)})

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a snapshot."""
        seats = {name: [_plain(s.champion), _plain(s.first), s.rollout] for name, s in self.seats.items()}
        return {"stream": self.stream, "content": self.content, "seats": seats}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Roster:
        """The roster of `to_json`."""
        seats = {name: Seats(_seat(champion), _seat(first), rollout) for name, (champion, first, rollout) in found["seats"].items()}
        return cls(found["stream"], found["content"], seats)


def check_switch(switch: ModelSwitched, bundle: Bundle | None, newest: int, ring: KeyRing) -> None:
    """Refused unless a switch in the log holds: it is decided as the spec in force asks, and its rollout comes after the model's `newest`."""
    decided(switch, bundle, ring)
    if switch.rollout <= newest:
        raise Refused("old-rollout", f"rollout {switch.rollout} of {switch.model} comes after rollout {newest}")


def decided(said: ModelSwitched | RolloutOrdered, bundle: Bundle | None, ring: KeyRing) -> Verified:
    """Refused unless the approvers whom the spec in force names, whatever `said` claims, have signed exactly this of its stream."""
    return verify(said.envelopes, ring, *_asked_by(bundle, said))


def signer(text: str, about: ApprovalRequested | RolloutOrdered, bundle: Bundle | None, ring: KeyRing) -> str:
    """Which of these approvers has signed one envelope, of either verdict, about this; Refused where none has."""
    return verify_one(text, ring, *_asked_by(bundle, about))[0]


def _asked_by(bundle: Bundle | None, said: ModelSwitched | RolloutOrdered | ApprovalRequested) -> tuple[Policy, Subject]:
    model = bundle.models.get(said.model) if bundle else None
    if bundle is None or model is None:
        raise Refused("unknown-model", f"the spec has no model {said.model!r}")
    policy = Policy(model.approval.approvers[0], model.approval.required, frozenset({bundle.author}))
    return policy, replace(Subject.of(said), stream=bundle.stream.stream)


def content_of(order: RolloutOrdered) -> str:
    """The digest of what an order says. Ids can be guessed: a forged order under the id of a genuine one is another order."""
    return "sha256:" + hashlib.sha256(order.model_dump_json().encode()).hexdigest()


def _unless(seat: Seat | None, version: int) -> Seat | None:
    return None if seat and seat.version == version else seat


def _plain(seat: Seat | None) -> list[Any] | None:
    return [seat.version, seat.artifact, *seat.link] if seat else None


def _seat(found: list[Any] | None) -> Seat | None:
    return Seat(found[0], found[1], (found[2], found[3], found[4])) if found else None
