"""R20: how far a replay may go while windows are not yet judged and decisions are still open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from tidemill.events import governance, ingest, progress, training
from tidemill.events.base import Event

FOREVER: Final = 2**62
"""After all times: without a model there is nothing to wait for."""


@dataclass(frozen=True)
class Gate:
    """What the replay knows of the loop, per model. Event time in microseconds.

    A feed may send what is known before `limit`: one monitoring window past the newest one that training has judged, and not
    past the time that an open cause's policy grants (`turnaround`).
    """

    stream: str
    windows: dict[str, int]
    begin: int
    judged: dict[str, int] = field(default_factory=dict)
    open: dict[str, int] = field(default_factory=dict)
    closed: frozenset[str] = frozenset()

    @property
    def limit(self) -> int:
        """The time up to which (exclusively) events may be sent."""
        ends = [self.judged_until(model) + window for model, window in self.windows.items()]
        return min([*ends, *self.open.values()], default=FOREVER)

    def judged_until(self, model: str) -> int:
        """The end of the model's newest judged window; before the first, the begin of that."""
        return self.judged.get(model, self.begin // self.windows[model] * self.windows[model])

    @property
    def idle(self) -> bool:
        """Whether no cause is open."""
        return not self.open

    def hear(self, event: Event) -> Gate:
        """The gate after one control event."""
        listen = _LISTEN.get(type(event))
        return listen(self, event) if listen and getattr(event, "stream", self.stream) == self.stream else self


def _on_progress(gate: Gate, said: progress.Progress) -> Gate:
    if said.service != "training" or said.model not in gate.windows:
        return gate
    judged = gate.judged | {said.model: max(said.event_time, gate.judged.get(said.model, said.event_time))}
    opened = gate.open
    if said.run is not None and said.hold is not None and said.run not in gate.closed:
        opened = gate.open | {said.run: said.hold}
    return replace(gate, judged=judged, open=opened)


def _on_requested(gate: Gate, said: training.RunRequested) -> Gate:
    return gate if said.run in gate.closed else replace(gate, open=gate.open | {said.run: said.effective_at})


def _close(gate: Gate, run: str) -> Gate:
    return replace(gate, open={key: at for key, at in gate.open.items() if key != run}, closed=gate.closed | {run})


def _on_decided(gate: Gate, said: governance.ApprovalDecided) -> Gate:
    return gate if said.verdict == "approved" else _close(gate, said.run)


def _on_end(gate: Gate, said: training.RunFailed | governance.GateFailed | ingest.SwitchAppended | ingest.SwitchRefused) -> Gate:
    return _close(gate, said.run)


_LISTEN: dict[type[Event], Callable[..., Gate]] = {
    progress.Progress: _on_progress,
    training.RunRequested: _on_requested,
    training.RunFailed: _on_end,
    governance.GateFailed: _on_end,
    governance.ApprovalDecided: _on_decided,
    ingest.SwitchAppended: _on_end,
    ingest.SwitchRefused: _on_end,
}
HEARD: tuple[type[Event], ...] = tuple(_LISTEN)
