"""One month of flights: the spans of a switch lead to the window, run, report, approval and order behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.demo_site import Demo
from tidemill.cli.trace import trees_of
from tidemill.settings import Settings
from tidemill.telemetry.files import read_spans
from tidemill.telemetry.tree import Node, Span, from_otlp

BACKWARDS = [
    "append switch",
    "send governance.rollout-ordered.v1",
    "process governance.decision-submitted.v1",
    "send governance.approval-requested.v1",
    "process registry.version-registered.v1",
    "send registry.version-registered.v1",
    "process training.run-completed.v1",
    "send training.run-completed.v1",
    "act training",
    "process monitoring.window-closed.v1",
    "say monitoring.window-closed.v1",
]


@pytest.fixture(scope="module")
def month(demo: Demo) -> Path:
    """The data directory of a demonstration that ended after its first switch; nothing runs any more, so all spans are there."""
    demo.tidemill("down")
    return demo.data


@pytest.fixture(scope="module")
def spans(month: Path) -> dict[tuple[str, str], Span]:
    found = map(from_otlp, read_spans(month))
    return {span.key: span for span in found}


def test_parents_lead_from_the_switch_back_to_what_closed_the_window(spans: dict[tuple[str, str], Span]) -> None:
    (switch,) = [span for span in spans.values() if span.name == "append switch"]
    way = [switch]
    while (above := spans.get((way[-1].key[0], way[-1].parent or ""))) is not None:
        way.append(above)
    assert [span.name for span in way] == BACKWARDS
    completed = way[BACKWARDS.index("send training.run-completed.v1")]
    assert str(completed.attributes["tidemill.report"]).startswith("sha256:")
    assert completed.attributes["tidemill.run"] == switch.attributes["tidemill.run"]
    assert {span.service for span in way} == {"ingest", "governance", "registry", "training", "monitoring"}


def test_predictions_link_to_the_switch_that_made_their_model_champion(spans: dict[tuple[str, str], Span]) -> None:
    (switch,) = [span for span in spans.values() if span.name == "append switch"]
    position = int(switch.attributes["tidemill.position"])
    predictions = [span for span in spans.values() if span.name == "prediction"]
    after = [span for span in predictions if span.attributes["tidemill.position"] > position]
    assert len(after) > 20
    for span in after:
        (link,) = span.links
        assert (spans[link].name, spans[link].parent, link[0]) == ("control", switch.key[1], switch.key[0])
    assert not [span for span in predictions if span.links and span not in after]


def test_the_command_shows_the_switch_as_one_tree(month: Path) -> None:
    trees = trees_of("late-arrival:1", Settings(data_dir=month))
    names = [span.name for tree in trees for span in _all(tree)]
    assert set(BACKWARDS) <= set(names)
    assert "send training.run-requested.v1" in names
    assert "send ingest.switch-appended.v1" in names


def _all(node: Node) -> list[Any]:
    return [node.span, *(span for child in node.children for span in _all(child))]
