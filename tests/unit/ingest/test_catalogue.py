"""What ingest keeps of the control plane's events."""

from __future__ import annotations

from pathlib import Path

from services.ingest.adapters.control import Catalogue
from tests.unit.ingest.orders import decided, generate, ordered, told


def test_verdicts_are_kept_with_their_stream_and_once_however_often_they_are_heard(tmp_path: Path) -> None:
    generate(tmp_path)
    verdict = decided(ordered(tmp_path), "lapsed")
    catalogue = Catalogue()
    for _ in range(2):
        catalogue.hear(told(verdict))
    assert catalogue.rollouts("world").verdicts == {verdict.approval: [verdict]}
    assert catalogue.rollouts("other").verdicts == {}
