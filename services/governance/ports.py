"""What governance's handlers may touch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from services.governance.model import Proposal
from tidemill.bus.control import Meta
from tidemill.events.governance import AuditAppended
from tidemill.spec import Bundle
from tidemill.trust.keys import KeyRing


class Specs(Protocol):
    """The newest spec of each stream, and who wrote it."""

    def put(self, stream: str, digest: str, author: str, content: str) -> None: ...
    def get(self, stream: str) -> tuple[str, Bundle] | None: ...

    def author(self, stream: str, digest: str) -> str | None:
        """Who was the first to apply the spec of this digest, newest or not."""


class Proposals(Protocol):
    """All approval requests."""

    def get(self, approval: str) -> Proposal | None: ...
    def open_of(self, stream: str, model: str) -> Proposal | None: ...
    def of_version(self, stream: str, model: str, version: int) -> Proposal | None: ...
    def put(self, proposal: Proposal) -> None: ...
    def next_rollout(self, stream: str, model: str) -> int: ...

    def ordered(self, stream: str, model: str) -> Proposal | None:
        """The newest approved one whose order has had no answer yet: its version is about to serve."""

    def answered(self, approval: str) -> None:
        """Its order has had its answer."""

    def answered_up_to(self, stream: str, model: str, rollout: int) -> None:
        """The orders of the model up to this number have had their answer: later ones alone can follow."""


class Champions(Protocol):
    """Which version serves, as the registry says."""

    def get(self, stream: str, model: str) -> int | None: ...
    def set(self, stream: str, model: str, version: int | None) -> None: ...


class Arrivals(Protocol):
    """When the broker took what is at hand, us of its own clock: when its sender said it is the sender's word alone."""

    def taken(self) -> int: ...


class Audit(Protocol):
    """The chain. `append` links one more fact to it and returns the link, to be said."""

    def append(self, kind: str, subject: str, detail: dict[str, object]) -> AuditAppended: ...


@dataclass(frozen=True, slots=True)
class Ports:
    """All that a handler may touch; `meta.now` is its only clock."""

    meta: Meta
    specs: Specs
    proposals: Proposals
    champions: Champions
    audit: Audit
    arrivals: Arrivals
    keys: KeyRing
