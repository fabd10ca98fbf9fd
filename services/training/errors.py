"""Why a run ends without an artifact."""

from __future__ import annotations

from tidemill.errors import TidemillError


class RunFailed(TidemillError):
    """The run can never succeed: trying again would give the same."""

    def __init__(self, reason: str, detail: str) -> None:
        """`reason` is a stable code (`too-few-rows`); `detail` is for people."""
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail
