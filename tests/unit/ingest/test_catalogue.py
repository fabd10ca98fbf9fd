"""What ingest keeps of the control plane's events."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.ingest.adapters.control import Catalogue
from tests.unit.ingest.orders import decided, generate, ordered
from tests.unit.ingest.world import bundle
from tidemill.bus.control_client import Heard
from tidemill.events.base import Event
from tidemill.events.envelope import Envelope
from tidemill.events.spec import Applied


def heard(event: Event) -> Heard:
    return Heard(event, Envelope(), "", 0, 0, 0)


@pytest.mark.parametrize("over", [{"content": "{}"}, {"stream": "other"}])
def test_a_stream_keeps_its_spec_where_the_next_cannot_be_followed(over: dict[str, str]) -> None:
    good = Applied(stream="world", digest="", author="ann", content=bundle().to_json(), applied_at=0)
    catalogue = Catalogue()
    for event in (good, good.model_copy(update=over)):
        catalogue.hear(heard(event))
    assert catalogue.streams == ["world"]
    assert catalogue.bundle("world") == bundle()


def test_verdicts_are_kept_with_their_stream_and_once_however_often_they_are_heard(tmp_path: Path) -> None:
    generate(tmp_path)
    verdict = decided(ordered(tmp_path), "lapsed")
    catalogue = Catalogue()
    for _ in range(2):
        catalogue.hear(heard(verdict))
    assert catalogue.rollouts("world").verdicts == {verdict.approval: [verdict]}
    assert catalogue.rollouts("other").verdicts == {}
