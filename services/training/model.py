"""When a model is retrained: the causes of a policy, and what speaks against one. Pure; all times are event time in microseconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from tidemill.events.identity import event_id
from tidemill.events.training import CauseKind, RunRequested
from tidemill.spec.model import Retrain
from tidemill.spec.values import format_duration, format_moment


@dataclass(frozen=True)
class Alert:
    """An alert that stands in a window: raised in it, or raised before and still active."""

    id: str
    name: str
    severity: str = ""


@dataclass(frozen=True)
class Window:
    """What a closed window says to training."""

    stream: str
    model: str
    partition: int
    start: int
    end: int
    position: int
    labels: int
    """Outcomes in all, from the begin: of the window's shard, until `across` has summed them."""
    champion: int | None = None
    alerts: tuple[Alert, ...] = ()


@dataclass(frozen=True)
class Cause:
    """What would start a run."""

    kind: CauseKind
    id: str
    detail: str


@dataclass(frozen=True)
class Asked:
    """A run that was requested, as far as later judgements need it."""

    run: str
    at_time: int
    effective_at: int
    open: bool = False
    """Whether it still runs."""


@dataclass(frozen=True)
class History:
    """What was decided about a model until now."""

    runs: tuple[Asked, ...] = ()
    """Oldest first."""
    served: frozenset[str] = frozenset()
    """Causes that had their run."""
    declined: frozenset[str] = frozenset()
    """Causes of which it was said that they lead to no run, for now."""
    begin: int | None = None
    """Start of the first window."""

    @property
    def last(self) -> Asked | None:
        """The newest run."""
        return self.runs[-1] if self.runs else None

    def open_at(self, time: int) -> Asked | None:
        """The run that still runs, or whose turnaround is not over at `time`."""
        return self.last if self.last and (self.last.open or time < self.last.effective_at) else None


@dataclass(frozen=True)
class Judgement:
    """At most one cause leads to a run; of the others it is said why not."""

    run: Cause | None = None
    declined: list[tuple[Cause, str]] = field(default_factory=list)


def across(window: Window, shards: Sequence[Window]) -> Window:
    """The window with what all shards tell; `shards`: the newest window of each.

    Labels are summed. Who serves is known to the shards that have come farthest: a late one has not met the switch yet.
    """
    latest = max(one.end for one in shards)
    serving = [one.champion for one in shards if one.end == latest and one.champion is not None]
    return replace(window, labels=sum(one.labels for one in shards), champion=max(serving, default=None))


def judge(policy: Retrain, window: Window, history: History) -> Judgement:
    """The causes that a window brings, in the policy's order; the first without objection gives the run.

    The history is that of all shards, so whichever of them closes a window, there is one decision for the stream and the model.
    """
    judgement = Judgement()
    for cause in causes(policy, window, history):
        reason = objection(policy, cause, window.end, history)
        if reason is None:
            run = Asked(run_id(window.stream, window.model, cause), window.end, window.end + policy.turnaround, open=True)
            judgement, history = replace(judgement, run=cause), replace(history, runs=(*history.runs, run))
        elif cause.id not in history.declined:
            judgement.declined.append((cause, reason))
    return judgement


def causes(policy: Retrain, window: Window, history: History) -> Iterator[Cause]:
    """The causes that hold in this window and have had no run."""
    for rule in policy.on:
        if rule.labels is not None:
            found = _labels(rule.labels, window)
        elif rule.alert is not None:
            found = [_alert(alert) for alert in window.alerts if alert.name == rule.alert]
        elif rule.every is not None:
            found = _schedule(rule.every, policy, window, history)
        else:
            found = []
        yield from (cause for cause in found if cause.id not in history.served)


def objection(policy: Retrain, cause: Cause, time: int, history: History) -> str | None:
    """Why a cause leads to no run at this time; None where nothing speaks against it. People are not held to the cool-down."""
    if running := history.open_at(time):
        return f"run {running.run} is open"
    last = history.last
    if cause.kind != "manual" and last and time < last.at_time + policy.cool_down:
        until = format_moment(last.at_time + policy.cool_down)
        return f"cool-down of {format_duration(policy.cool_down)} since the last run, until {until}"
    if budget := policy.budget:
        spent = sum(run.at_time > time - budget.within for run in history.runs)
        if spent >= budget.runs:
            return f"budget of {budget.runs} in {format_duration(budget.within)} is spent"
    return None


def manual(policy: Retrain, cause: Cause, time: int, history: History) -> str | None:
    """As `objection`, of a person's request."""
    if not any(rule.manual for rule in policy.on):
        return "the model's spec does not list `manual` under retrain.on"
    return objection(policy, cause, time, history)


def run_id(stream: str, model: str, cause: Cause) -> str:
    """A run's id follows from its cause."""
    return event_id(cause.id, RunRequested.ce_type(), f"{stream}/{model}")


def _labels(wanted: int, window: Window) -> Sequence[Cause]:
    """So many labels for the first model; where that one never came to serve, twice as many, and so on."""
    if window.champion is not None or window.labels < wanted:
        return ()
    reached = next(step for step in count() if window.labels < wanted << (step + 1))
    return (Cause("labels", f"labels:{window.stream}/{window.model}:{wanted << reached}", f"{wanted << reached} labels"),)


def _alert(alert: Alert) -> Cause:
    return Cause("alert", alert.id, f"alert {alert.name}" + (f" ({alert.severity})" if alert.severity else ""))


def _schedule(every: int, policy: Retrain, window: Window, history: History) -> Sequence[Cause]:
    """Since the last request; before any, since the stream's begin, unless the first model waits for labels."""
    if history.last is None and any(rule.labels is not None for rule in policy.on):
        return ()
    since = history.last.at_time if history.last else history.begin if history.begin is not None else window.start
    if window.end < since + every:
        return ()
    after = history.last.run if history.last else "begin"
    text = format_duration(every)
    return (Cause("schedule", f"every:{window.stream}/{window.model}:{text}:{after}", f"every {text}"),)
