"""The control plane's way from its records."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from tidemill.bus.control_client import Heard
from tidemill.events.base import Event
from tidemill.events.envelope import Envelope
from tidemill.events.ingest import SwitchAppended
from tidemill.events.monitoring import AlertRaised, WindowClosed
from tidemill.events.paths import schemas_dir
from tidemill.events.training import RunRequested
from tidemill.telemetry.decisions import Decisions

Kind = TypeVar("Kind", bound=Event)


def example(kind: type[Kind], file: str, **over: Any) -> Kind:
    return kind.model_validate(json.loads((schemas_dir() / f"{file}.v1.example.json").read_text()) | over)


SWITCH = example(SwitchAppended, "ingest/switch-appended")
ALERT = example(AlertRaised, "monitoring/alert-raised", alert="alert-1", position=100)
WINDOW = example(WindowClosed, "monitoring/window-closed", position=500)
REQUEST = example(RunRequested, "training/run-requested", run="run-1", cause_kind="alert", cause_id="alert-1", position=500)
FIRST = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
AGAIN = "00-11111111111111111111111111111111-2222222222222222-01"


def said(at: int, traceparent: str) -> Heard:
    return Heard(SWITCH, Envelope(id="switch-1", source="ingest", traceparent=traceparent), "ingest.switch-appended.v1", 0, at, at)


def test_an_event_that_a_restarted_service_says_again_keeps_its_way() -> None:
    decisions = Decisions.of([said(1, FIRST), said(2, AGAIN)])
    switch = decisions.switch(SWITCH.model, SWITCH.version)
    assert switch is not None
    assert switch.at == 1
    assert decisions.key(switch)[0] == "0af7651916cd43dd8448eb211c80319c"


def led_to(event: Event, id: str, cause: str, at: int) -> Heard:
    return Heard(event, Envelope(id=id, source="x", caused_by=cause), event.ce_type(), 0, at, at)


def test_a_run_and_the_alert_of_an_earlier_window_that_caused_it_lead_to_each_other() -> None:
    decisions = Decisions.of(
        [
            led_to(ALERT, "alert-1", "log.s[0]:100", 1),
            led_to(WINDOW, "window-1", "log.s[0]:500", 2),
            led_to(REQUEST, "request-1", "window-1", 3),
        ]
    )
    for name in ("alert-1", "run-1"):
        spans = {span.name: span for span in decisions.around(decisions.named(name))}
        assert list(spans) == [f"send {event.ce_type()}" for event in (ALERT, WINDOW, REQUEST)]
        assert spans[f"send {REQUEST.ce_type()}"].links[1:] == (spans[f"send {ALERT.ce_type()}"].key,)
