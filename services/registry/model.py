"""What the registry knows: versions, aliases, switches. Values and rules, pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from tidemill.errors import Refused
from tidemill.events.governance import ApprovalDecided, ApprovalRequested
from tidemill.trust.decision import Policy, Subject, agreed, verify_one
from tidemill.trust.keys import KeyRing
from tidemill.trust.statement import question

CANDIDATE, CHAMPION = "candidate", "champion"

Stage = Literal["open", "lapsed", "rejected", "approved", "refused", "served"]
"""Of a request: what people said of it, and what ingest did with the order that followed. It only goes on in this order."""
_STAGES: Final[tuple[Stage, ...]] = get_args(Stage)


@dataclass(frozen=True, slots=True)
class Request:
    """What people were asked, and what has become of it."""

    said: ApprovalRequested
    state: Stage = "open"
    reason: str = ""

    @property
    def approved(self) -> bool:
        """Whether people have approved it, whatever ingest did then."""
        return _STAGES.index(self.state) >= _STAGES.index("approved")

    def at(self, state: Stage, reason: str = "") -> Request:
        """With what has become of it. Facts of several topics, and of several shards, come in any order: none takes a later one back."""
        return replace(self, state=state, reason=reason) if _STAGES.index(state) > _STAGES.index(self.state) else self


@dataclass(frozen=True, slots=True)
class Switch:
    """A version begins to serve: from this place of the log on. Times in microseconds."""

    stream: str
    model: str
    version: int
    rollout: int
    partition: int
    position: int
    stream_time: int
    """That of its record in the log."""
    effective_at: int
    """The event time as of which it was to serve. A live stream's log has it as soon as it is approved, earlier or later."""
    approval: str
    run: str


def served_at_position(switches: Sequence[Switch], partition: int, position: int) -> Switch | None:
    """The switch in force for a record of the log at `position`; None before the first."""
    before = [switch for switch in switches if switch.partition == partition and switch.position <= position]
    return max(before, key=lambda switch: switch.position, default=None)


def served_at_time(switches: Sequence[Switch], partition: int, time: int) -> Switch | None:
    """The switch in force behind the last record of a stream time (microseconds); None before the first.

    Records of one stream time may stand on both sides of a switch: which version answered one of them, its position tells.
    """
    before = [switch for switch in switches if switch.partition == partition and switch.stream_time <= time]
    return max(before, key=lambda switch: switch.position, default=None)


def verify_verdict(event: ApprovalDecided, request: ApprovalRequested, ring: KeyRing) -> None:
    """Refused unless those whom the request asks have signed what it asks, as `event` says of it; a lapse is nobody's decision."""
    policy = Policy(request.group, request.required, frozenset({request.author, request.requester}))
    subject, asked = Subject.of(request), question(request.statement)
    signed = [verify_one(text, ring, policy, subject, now_us=event.decided_at) for text in event.envelopes]
    if any(said.question != asked for _, said in signed):
        raise Refused("other-statement", "the signed statement is not the one that was asked for")
    if event.verdict == "approved":
        agreed(signed, policy)
    elif event.verdict == "rejected" and not any(said.predicate.verdict == "reject" for _, said in signed):
        raise Refused("not-rejected", "nobody has signed a rejection")
