"""What training does about each fact it hears."""

from __future__ import annotations

from collections.abc import Sequence

from services.training import model
from services.training.model import Alert, Asked, Cause, Window
from services.training.ports import Ports
from tidemill.bus.control import Parked, Saying, ToStream
from tidemill.events.monitoring import WindowClosed
from tidemill.events.progress import Progress
from tidemill.events.spec import Applied
from tidemill.events.training import RetrainRequested, RunDeclined, RunRequested
from tidemill.spec import Bundle

SELF = "training"
"""Who requests a run that no person asked for."""


def on_applied(event: Applied, ports: Ports) -> Sequence[Saying]:
    """Remember the stream's policies. Read at once: what cannot be read must not meet a later window."""
    Bundle.applied(event.stream, event.content)
    ports.specs.put(event.stream, event.content)
    return []


def on_window_closed(event: WindowClosed, ports: Ports) -> Sequence[Saying]:
    """Judge the causes that the window brings; say in any case that it was judged."""
    window = _window(event)
    bundle = _spec(event.stream, ports)
    said: list[Saying] = []
    if event.model in bundle.models:
        ports.windows.put(window)
        shards = ports.windows.newest(event.stream, event.model)
        said = _judge(model.across(window, shards), bundle, ports)
    running = ports.runs.history(event.stream, event.model).last
    return [*said, _progress(event, running if running and running.open else None)]


def on_retrain_requested(event: RetrainRequested, ports: Ports) -> Sequence[Saying]:
    """A person asks: the newest closed window is the cause's place."""
    cause = Cause("manual", ports.meta.id, event.reason)
    bundle = ports.specs.get(event.stream)
    window = next(iter(ports.windows.newest(event.stream, event.model)), None)
    if bundle is None or event.model not in bundle.models:
        return [
            _declined(event.stream, event.model, cause, 0, 0, f"no spec of {event.stream} with a model {event.model} was applied")
        ]
    if window is None:
        return [
            _declined(event.stream, event.model, cause, 0, 0, "no window of this model has closed yet: there is nothing to learn")
        ]
    history = ports.runs.history(event.stream, event.model)
    reason = model.manual(bundle.models[event.model].retrain, cause, window.end, history)
    if reason is not None:
        return [_declined(event.stream, event.model, cause, window.position, window.end, reason)]
    return [_request(window, cause, event.requester, bundle, ports)]


def _judge(window: Window, bundle: Bundle, ports: Ports) -> list[Saying]:
    policy = bundle.models[window.model].retrain
    judgement = model.judge(policy, window, ports.runs.history(window.stream, window.model))
    said: list[Saying] = []
    for cause, reason in judgement.declined:
        ports.runs.decline(window.stream, window.model, cause.id)
        said.append(_declined(window.stream, window.model, cause, window.position, window.end, reason))
    if judgement.run:
        said.append(_request(window, judgement.run, SELF, bundle, ports))
    return said


def _request(window: Window, cause: Cause, requester: str, bundle: Bundle, ports: Ports) -> RunRequested:
    request = RunRequested(
        run=model.run_id(window.stream, window.model, cause),
        stream=window.stream,
        model=window.model,
        cause_kind=cause.kind,
        cause_id=cause.id,
        cause_detail=cause.detail,
        partition=window.partition,
        position=window.position,
        at_time=window.end,
        effective_at=window.end + bundle.models[window.model].retrain.turnaround,
        requester=requester,
        spec_digest=bundle.digest,
    )
    ports.runs.request(request, ports.meta.traceparent)
    return request


def _declined(stream: str, name: str, cause: Cause, position: int, at_time: int, reason: str) -> RunDeclined:
    return RunDeclined(
        stream=stream, model=name, cause_kind=cause.kind, cause_id=cause.id, position=position, at_time=at_time, reason=reason
    )


def _progress(event: WindowClosed, running: Asked | None) -> ToStream:
    said = Progress(
        service=SELF,
        model=event.model,
        event_time=event.window_end,
        position=event.position,
        run=running.run if running else None,
        hold=running.effective_at if running else None,
    )
    return ToStream(said, event.stream, event.partition)


def _spec(stream: str, ports: Ports) -> Bundle:
    bundle = ports.specs.get(stream)
    if bundle is None:
        raise Parked(f"the spec of {stream}", after=Applied)
    return bundle


def _window(event: WindowClosed) -> Window:
    return Window(
        stream=event.stream,
        model=event.model,
        partition=event.partition,
        start=event.window_start,
        end=event.window_end,
        position=event.position,
        labels=event.outcomes_total,
        champion=event.champion,
        alerts=tuple(Alert(alert.id, alert.name, alert.severity) for alert in event.alerts if alert.state != "cleared"),
    )
