"""What the report is computed from: every raw event is somewhere, and switches are believed only with a decision that holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tests.unit.feature_store import small
from tests.unit.serving import scene
from tidemill.demo.ledger import Log, RawTopic
from tidemill.events import log, wire
from tidemill.events.base import Event


def numbers(*found: int) -> Any:
    return np.array(found, np.int64)


@pytest.mark.parametrize(
    ("ids", "logged", "dead", "rest"),
    [
        ((1, 2, 3), (0, 1, 2), (), (0, 0)),
        ((1, 2, 1), (0, 1), (), (1, 0)),
        ((1, 2, 3), (0, 1), (), (0, 1)),
        ((1, 2, 3), (0,), (1,), (0, 1)),
        ((1, 2, 2), (0,), (1,), (0, 1)),  # a repeat of what is dead is dead too, or lost
        ((1, 0, 0), (0, 1), (), (0, 1)),  # what has no key repeats nothing
    ],
)
def test_a_raw_event_is_in_the_log_or_dead_or_a_repeat_or_lost(
    ids: tuple[int, ...], logged: tuple[int, ...], dead: tuple[int, ...], rest: tuple[int, int]
) -> None:
    topic = RawTopic(np.arange(len(ids)), np.array(ids, np.uint64), np.zeros(len(ids), np.int64))
    assert topic.rest(numbers(*logged), numbers(*dead)) == rest


def test_a_switch_holds_by_its_own_decision_alone(tmp_path: Path) -> None:
    trust = scene.Trust.made(tmp_path)
    said: list[Event] = [scene.adopted(scene.bundle()), trust.switch(1, 1), trust.switch(2, 2, {"version": 3}), trust.switch(2, 2)]
    turns = {10 * at: wire.frame(small.IDS[one.full_name()], wire.datum(one)) for at, one in enumerate(said)}
    found = Log(np.zeros(0, log.LOG_HEADER), numbers(), turns)
    assert found.holding("small", cast(Any, scene.Schemas()), trust.ring) == {("m", 1, 10), ("m", 2, 30)}
