"""The audit chain: each link holds the hash of the one before, so that no link can be changed or left out unseen. Pure.

That the newest links were cut off, or all of them made anew, only shows beside the last hash as somebody else has kept it: `number_of`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from tidemill.errors import Refused
from tidemill.events.governance import AuditAppended

GENESIS = "0" * 64
"""What the first link names as the one before it."""


def link(previous: AuditAppended | None, at: int, kind: str, subject: str, event: str, detail: dict[str, object]) -> AuditAppended:
    """The next link. `at` is wall time (microseconds), `event` the id of the event that led to it."""
    bare = AuditAppended(
        number=previous.number + 1 if previous else 0,
        at=at,
        kind=kind,
        subject=subject,
        event=event,
        detail=json.dumps(detail, sort_keys=True, separators=(",", ":")),
        previous=previous.hash if previous else GENESIS,
        hash="",
    )
    return bare.model_copy(update={"hash": digest(bare)})


def digest(entry: AuditAppended) -> str:
    """SHA-256 of the canonical JSON of everything in the link but its own hash."""
    content = json.dumps(entry.model_dump(exclude={"hash"}), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def number_of(entries: Iterable[AuditAppended], noted: str) -> int:
    """The number of the link whose hash was noted earlier; Refused when a chain that holds by itself has it no more."""
    for entry in entries:
        if entry.hash == noted:
            return entry.number
    raise Refused("other-chain", f"no link has the hash {noted}: links were cut off since it was noted, or the chain was made anew")


def verify(entries: Iterable[AuditAppended]) -> int:
    """How many links there are; Refused, with the broken link's number, when one was changed, left out or put elsewhere."""
    number, previous = 0, GENESIS
    for entry in entries:
        if entry.number != number:
            raise Refused("broken-chain", f"link {number} is missing: the next one has number {entry.number}")
        if entry.previous != previous:
            raise Refused("broken-chain", f"link {number} does not follow link {number - 1}: it names another hash before it")
        if digest(entry) != entry.hash:
            raise Refused("broken-chain", f"link {number} was changed: its content does not have its hash")
        number, previous = number + 1, entry.hash
    return number
