"""One line for each thing that happens while the loop runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from tidemill.events import governance, ingest, monitoring, registry, training
from tidemill.events.base import Event


def line(event: Event) -> str | None:
    """The event as one line of rich markup, or None where it is not worth one."""
    tell = _TELL.get(type(event))
    return tell(event) if tell else None


def when(micros: float) -> str:
    """Event time as a reader wants it."""
    return datetime.fromtimestamp(micros / 1e6, UTC).strftime("%d %b %H:%M")


def _alert(said: monitoring.AlertRaised) -> str:
    feature = f" of {said.feature}" if said.feature else ""
    return (
        f"{when(said.window_end)}  [yellow]alert[/]     {said.name}: {said.metric}{feature} {said.value:.3f}, bound {said.bound:.3f}"
        f" ({said.severity}, {said.windows} windows)"
    )


def _cleared(said: monitoring.AlertCleared) -> str:
    why = "no longer in the spec" if said.reason == "withdrawn" else f"{said.metric} {said.value:.3f}"
    return f"{when(said.window_end)}  [green]cleared[/]   {said.name}: {why}"


def _requested(said: training.RunRequested) -> str:
    return f"{when(said.at_time)}  [cyan]run[/]       requested by {said.cause_kind}: {said.cause_detail}"


def _declined(said: training.RunDeclined) -> str:
    return f"{when(said.at_time)}  [dim]no run[/]    {said.cause_kind}: {said.reason}"


def _completed(said: training.RunCompleted) -> str:
    return (
        f"{'':12}  [cyan]trained[/]   {said.rows:,} rows in {said.seconds:.1f} s: log loss {said.metrics['log_loss']:.4f}"
        f" (baseline {said.baseline['log_loss']:.4f}), AUC {said.metrics['auc']:.3f}"
    )


def _failed(said: training.RunFailed) -> str:
    return f"{'':12}  [red]run failed[/] {said.reason}: {said.detail}"


def _registered(said: registry.VersionRegistered) -> str:
    return f"{'':12}  [cyan]version[/]   {said.model} {said.version}"


def _gate(said: governance.GateFailed) -> str:
    return (
        f"{'':12}  [red]refused[/]   version {said.version} fails {', '.join(gate.name for gate in said.gates if not gate.passed)}"
    )


def _asked(said: governance.ApprovalRequested) -> str:
    return f"{'':12}  [magenta]approval[/]  asked of {said.group} for version {said.version}: {len(said.gates)} gates passed"


def _decided(said: governance.ApprovalDecided) -> str:
    by = f" by {', '.join(said.approvers)}" if said.approvers else ""
    return f"{'':12}  [magenta]{said.verdict}[/]{by}: {said.reason}"


def _switched(said: ingest.SwitchAppended) -> str:
    return f"{when(said.effective_at)}  [bold green]switch[/]    version {said.version} serves from log position {said.partition}:{said.offset:,}"


def _not_switched(said: ingest.SwitchRefused) -> str:
    return f"{'':12}  [red]no switch[/] version {said.version}: {said.reason}"


_TELL: dict[type[Event], Callable[..., str]] = {
    monitoring.AlertRaised: _alert,
    monitoring.AlertCleared: _cleared,
    training.RunRequested: _requested,
    training.RunDeclined: _declined,
    training.RunCompleted: _completed,
    training.RunFailed: _failed,
    registry.VersionRegistered: _registered,
    governance.GateFailed: _gate,
    governance.ApprovalRequested: _asked,
    governance.ApprovalDecided: _decided,
    ingest.SwitchAppended: _switched,
    ingest.SwitchRefused: _not_switched,
}
TOLD: tuple[type[Event], ...] = tuple(_TELL)
