"""The control plane's way from its records alone: every control event names the one that caused it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tidemill.bus.control_client import Heard, read_all
from tidemill.events import topics, wire
from tidemill.events.base import Event
from tidemill.events.identity import hash64
from tidemill.events.ingest import SwitchAppended
from tidemill.events.monitoring import AlertRaised
from tidemill.events.training import RunRequested
from tidemill.settings import Settings
from tidemill.telemetry.references import parse_traceparent
from tidemill.telemetry.tracing import EVENT_ID, facts_of
from tidemill.telemetry.tree import Key, Span

_LEFT_OUT = ("spec.applied.v1", "ingest.answered.v1", topics.DEAD_LETTERS)
"""What is on nobody's way: a spec, an answer to a caller, and what could not be read."""


@dataclass(frozen=True)
class Decisions:
    """All control events of an installation, by id."""

    heard: dict[str, Heard]
    runs: dict[str, Heard]
    """The request of each run."""
    alerts: dict[str, Heard]
    """The raising of each alert."""

    @classmethod
    def read(cls, settings: Settings) -> Decisions:
        """Read the control topics to their end; raises Transient where the broker is away."""
        return cls.of(read_all(settings, list(_kinds())))

    @classmethod
    def of(cls, events: Iterable[Heard]) -> Decisions:
        """From events in order. One that a restarted speaker said again is what it was the first time, with what had led to it."""
        heard: dict[str, Heard] = {}
        for one in events:
            heard.setdefault(one.envelope.id, one)
        runs = {one.event.run: one for one in heard.values() if isinstance(one.event, RunRequested)}
        return cls(heard, runs, {one.event.alert: one for one in heard.values() if isinstance(one.event, AlertRaised)})

    def switch(self, model: str, version: int, before: tuple[int, int] | None = None) -> Heard | None:
        """The newest switch to a version, at or before a (partition, log position) where one is given."""
        found = None
        for one in self.heard.values():
            event = one.event
            if not isinstance(event, SwitchAppended) or (event.model, event.version) != (model, version):
                continue
            if before is None or (event.partition == before[0] and event.offset <= before[1]):
                found = one
        return found

    def newest_version(self, model: str) -> int | None:
        """The version of a model's newest switch."""
        switches = [one.event for one in self.heard.values() if isinstance(one.event, SwitchAppended) and one.event.model == model]
        return switches[-1].version if switches else None

    def named(self, name: str) -> list[Heard]:
        """The events that are, or are about, what has this id: an event, a run, an approval, an alert, an order."""
        return [one for one in self.heard.values() if name == one.envelope.id or name in _names(one.event)]

    def around(self, seeds: Iterable[Heard]) -> list[Span]:
        """The spans of these events, of all that led to them and all that came of that."""
        roots = {self._root(seed) for seed in seeds}
        for one in self.heard.values():
            ways = {self._root(one), *(self._root(alert) for alert in self._alerts(one))}
            roots |= ways if ways & roots else set()
        return [self._span(one) for one in self.heard.values() if self._root(one) in roots]

    def key(self, one: Heard) -> Key:
        """The ids of the span under which an event was said."""
        own, cause = parse_traceparent(one.envelope.traceparent), self._cause(one)
        number = hash64(one.envelope.id.encode())
        if own is None:
            return f"{number:032x}", f"{number:016x}"
        passed_on = cause is not None and cause.envelope.traceparent == one.envelope.traceparent  # by a command, which has no spans
        return f"{own.trace:032x}", f"{number if passed_on else own.span:016x}"

    def _cause(self, one: Heard) -> Heard | None:
        """What led to an event: the one that it names, else the request of its run."""
        named = self.heard.get(one.envelope.caused_by or "")
        if named is not None or isinstance(one.event, RunRequested):
            return named
        return self.runs.get(getattr(one.event, "run", ""))

    def _alerts(self, one: Heard) -> list[Heard]:
        """The alert that caused a run: it may have been raised windows before the one that led to it."""
        alert = self.alerts.get(getattr(one.event, "cause_id", ""))
        return [alert] if alert else []

    def _root(self, one: Heard) -> str:
        """What a way begins with: a place in the log, or an event that nothing led to."""
        way = [one]
        while (cause := self._cause(way[-1])) is not None and cause not in way:
            way.append(cause)
        return way[-1].envelope.caused_by or way[-1].envelope.id

    def _span(self, one: Heard) -> Span:
        key, cause = self.key(one), self._cause(one)
        before = self.key(cause) if cause else None
        others = [self.key(led) for led in (*([cause] if cause else []), *self._alerts(one))]
        return Span(
            key=key,
            parent=before[1] if before and before[0] == key[0] else None,
            name=f"send {one.topic}",
            service=one.envelope.source,
            begin=(cause.at if cause else one.at) * 1_000,
            end=one.at * 1_000,
            attributes={name: value for name, value in facts_of(one.event, one.envelope.id).items() if value is not None},
            links=tuple(other for other in others if other[0] != key[0]),
        )


def wanted(name: str) -> Callable[[Span], bool]:
    """Whether a span is about what has this id: an event, a run, an approval, an alert, an order; or `model:version`, or a model."""
    model, _, version = name.partition(":")
    attributes = (EVENT_ID, "tidemill.run", "tidemill.approval", "tidemill.alert", "tidemill.order", "tidemill.cause_id")

    def is_wanted(span: Span) -> bool:
        if version:
            return span.attributes.get("tidemill.model") == model and str(span.attributes.get("tidemill.version")) == version
        return any(span.attributes.get(attribute) == name for attribute in attributes)

    return is_wanted


def _kinds() -> Iterable[type[Event]]:
    for topic in topics.control_topics():
        if topic.name not in _LEFT_OUT:
            yield from (kind for record in topic.records if (kind := wire.event_type(record)) is not None)


def _names(event: Event) -> set[str]:
    return {str(getattr(event, name)) for name in ("run", "approval", "alert", "order", "cause_id") if getattr(event, name, None)}
