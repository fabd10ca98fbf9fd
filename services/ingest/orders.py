"""Rollout orders, and whether the requests behind them had ended before they were approved: by what people signed and the broker's times.

Governance says how a request ended too, but it signs nothing: whoever can write to a topic could end any request. So it is not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

from tidemill.errors import Refused
from tidemill.events.governance import ApprovalRequested, RolloutOrdered
from tidemill.events.log import ModelSwitched
from tidemill.models.rollout import content_of
from tidemill.trust import dsse, statement

Holds = Callable[[str, ApprovalRequested | RolloutOrdered], bool]
"""Whether one who may decide has signed an envelope about this."""


@dataclass(frozen=True)
class Order:
    """A rollout order as it was heard."""

    said: RolloutOrdered
    id: str
    """Of the event."""
    traceparent: str | None
    at: int
    """When the broker took it, us."""
    fresh: bool
    """Heard after this process had caught up: an old order that is stale needs no second answer."""

    @cached_property
    def content(self) -> str:
        """What tells it from another order under its id."""
        return content_of(self.said)

    @cached_property
    def questions(self) -> set[str]:
        """What its signers were asked: one question, unless they have changed it. Refused where an envelope is none."""
        return {statement.parse(dsse.parse(text).payload).question for text in self.said.envelopes}

    def became(self, switch: ModelSwitched) -> bool:
        """Whether the switch is what came of it."""
        said = self.said
        return (said.order, said.artifact, said.envelopes) == (switch.order, switch.artifact, switch.envelopes)


@dataclass(frozen=True)
class Asked:
    """A request as it was heard."""

    said: ApprovalRequested
    at: int
    """When the broker took it, us."""


@dataclass(frozen=True)
class Decision:
    """A submitted decision as it was heard."""

    envelope: str
    said: statement.Statement
    """What the envelope claims to be signed."""
    at: int
    """When the broker took it, us."""


@dataclass
class Requests:
    """What people of one stream were asked, and what they have answered."""

    asked: dict[str, Asked] = field(default_factory=dict)
    """By question: the first request counts."""
    decisions: dict[str, dict[str, Decision]] = field(default_factory=dict)
    """By approval and envelope, of each the first."""

    def ask(self, request: ApprovalRequested, at: int) -> None:
        """Keep a request."""
        with suppress(Refused):  # nobody can answer that
            self.asked.setdefault(statement.question(request.statement), Asked(request, at))

    def decide(self, decision: Decision) -> None:
        """Keep a decision."""
        self.decisions.setdefault(decision.said.predicate.approval, {}).setdefault(decision.envelope, decision)

    def ended(self, order: Order, holds: Holds) -> str:
        """`rejected` or `lapsed`, where the request of a well-signed order had come to that before the last of its signers had signed.

        It has lapsed behind its deadline, and where people were asked about a later version by then and one of them has answered that.
        """
        said, signed = order.said, self._signed(order)
        refusals = (one for one in self._answers(said.approval) if one.said.predicate.verdict == "reject")
        if any(one.at < signed and holds(one.envelope, said) for one in refusals):
            return "rejected"
        late = any(signed > self.asked[question].said.deadline for question in order.questions & self.asked.keys())
        return "lapsed" if late or any(self._answered(one, holds) for one in self._later(said, signed)) else ""

    def _answers(self, approval: str) -> Iterable[Decision]:
        return self.decisions.get(approval, {}).values()

    def _signed(self, order: Order) -> int:
        """When the broker had all of the order's envelopes: in decisions, or else in the order itself."""
        first = self.decisions.get(order.said.approval, {})
        return max(first[text].at if text in first else order.at for text in order.said.envelopes)

    def _later(self, said: RolloutOrdered, before: int) -> Iterable[tuple[str, Asked]]:
        """The questions about later versions of the model, and their requests, that were asked before that time."""
        for question, one in self.asked.items():
            if one.at < before and one.said.model == said.model and one.said.rollout > said.rollout:
                yield question, one

    def _answered(self, asked: tuple[str, Asked], holds: Holds) -> bool:
        question, request = asked
        answers = (one for one in self._answers(request.said.approval) if one.said.question == question)
        return any(holds(one.envelope, request.said) for one in answers)
