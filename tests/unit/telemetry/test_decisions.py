"""The control plane's way from its records."""

from __future__ import annotations

from tidemill.bus.control_client import Heard
from tidemill.events.envelope import Envelope
from tidemill.events.ingest import SwitchAppended
from tidemill.events.paths import schemas_dir
from tidemill.telemetry.decisions import Decisions

SWITCH = SwitchAppended.model_validate_json((schemas_dir() / "ingest/switch-appended.v1.example.json").read_text())
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
