"""Windows, realised metrics, drift and alerts: against plain Python, and the same for any arrival."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY

from services.monitoring.fold import Monitoring
from tests.calls import calls_of
from tests.unit.feature_store import small
from tests.unit.feature_store.brute import DAY, MINUTE, in_stream
from tests.unit.feature_store.brute import Event as Record
from tests.unit.serving import scene
from tests.unit.serving.scene import EVENTS, SWITCHES, WINDOW, Trust, features, pairs, serve
from tidemill.bus import heads
from tidemill.bus.fold import Batch
from tidemill.errors import Rejected
from tidemill.events import log_header, wire
from tidemill.events.base import Event
from tidemill.events.log import ModelSwitched, Progressed
from tidemill.events.monitoring import AlertCleared, AlertRaised, WindowClosed
from tidemill.spec import Bundle

NAMES = {number: kind for kind, number in scene.CONTROL_IDS.items()}


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return Trust.made(tmp_path_factory.mktemp("trust"))


class Inputs:
    """The three topics that monitoring reads."""

    def __init__(
        self,
        trust: Trust,
        turns: dict[int, Bundle | ModelSwitched] | None = None,
        switches: tuple[int, int] = SWITCHES,
        count: int = EVENTS,
    ) -> None:
        switched = {switches[0]: trust.switch(1, 1), switches[1]: trust.switch(2, 2)}
        self.features = features({**switched, **(turns or {})}, count=count)
        said = serve(self.features, trust, itertools.repeat(10**6))
        self.predictions, self.shadows = pairs(said["predictions"]), pairs(said["shadows"])

    def topics(self, size: int) -> list[list[Batch]]:
        found = {"features": self.features, "predictions": self.predictions, "shadow-predictions": self.shadows}
        return [list(scene.batches(topic, records, itertools.repeat(size))) for topic, records in found.items()]


def with_windows(length: int) -> Bundle:
    """A later spec with windows of another length, us."""
    spec = scene.bundle()
    model = spec.models["m"]
    monitors = model.monitors.model_copy(update={"window": length})
    return spec.model_copy(update={"models": {"m": model.model_copy(update={"monitors": monitors})}})


@cache
def inputs(trust: Trust) -> Inputs:
    return Inputs(trust)


def watch(batches: Iterator[Batch], trust: Trust, reload: bool = False, schemas: scene.Schemas | None = None) -> list[Event]:
    """What monitoring says, kinds apart, in order."""
    fold = Monitoring(schemas or scene.Schemas(), scene.Store(), trust.ring, "code")
    state = fold.initial("small", 0)
    out: list[Event] = []
    for batch in batches:
        fold.prepare(state, batch)
        state, rows = fold.step(state, batch)
        for part in rows:
            facts, ids = (
                [_decoded(value) for value in part.values],
                [dict(heads.read(head))["ce_id"].decode() for head in part.heads or ()],
            )
            assert len(set(ids)) == len(facts)
            assert all(fact.alert == said for fact, said in zip(facts, ids, strict=True) if isinstance(fact, AlertRaised))
            out += facts
        if reload:
            state = fold.load("small", 0, fold.dump(state))
    return out


def _decoded(value: bytes) -> Event:
    kind = NAMES[wire.schema_id(value)]
    return kind.model_validate(wire.decode_datum(value[5:], wire.parsed(kind)))


def windows(said: list[Event]) -> list[WindowClosed]:
    return [event for event in said if isinstance(event, WindowClosed)]


def shuffled(topics: list[list[Batch]], seed: int) -> Iterator[Batch]:
    """Batches of several topics, each topic in order, otherwise as they come."""
    rng, left = random.Random(seed), [list(topic) for topic in topics]
    while any(left):
        yield rng.choice([topic for topic in left if topic]).pop(0)


def test_windows_follow_each_other_without_gap_or_overlap_and_the_last_one_says_so(trust: Trust) -> None:
    found = windows(watch(itertools.chain(*inputs(trust).topics(10**6)), trust))
    begins = [window.window_start for window in found]
    assert begins == list(range(begins[0], begins[0] + len(begins) * WINDOW, WINDOW))
    assert [window.ended for window in found] == [False] * (len(found) - 1) + [True]


def test_every_prediction_and_outcome_is_in_exactly_one_window(trust: Trust) -> None:
    found = windows(watch(itertools.chain(*inputs(trust).topics(10**6)), trust))
    rows = scene.small.parsed(scene.bundle(), inputs(trust).features)
    assert sum(window.predictions for window in found) == len(inputs(trust).predictions)
    assert sum(window.outcomes for window in found) == sum(name == "Outcome" for name, _ in rows) == found[-1].outcomes_total
    assert sum(window.unlabelled for window in found) == sum(name == "Unlabelled" for name, _ in rows)


def test_the_shadow_is_measured_on_the_same_labels(trust: Trust) -> None:
    found = windows(watch(itertools.chain(*inputs(trust).topics(10**6)), trust))
    assert found[-2].shadow_metrics
    assert found[-2].shadow_metrics != found[-2].metrics
    assert not found[0].shadow_metrics


def test_an_alert_is_raised_once_with_its_evidence_and_listed_while_it_is_up(trust: Trust) -> None:
    said = watch(itertools.chain(*inputs(trust).topics(10**6)), trust)
    raised = [event for event in said if isinstance(event, AlertRaised) and event.name == "worse"]
    cleared = [event for event in said if isinstance(event, AlertCleared) and event.name == "worse"]
    assert len(raised) == 1 + len(cleared)
    assert raised[0].value > raised[0].bound
    assert raised[0].evidence["log_loss"] == raised[0].value
    states = [alert.state for window in windows(said) for alert in window.alerts if alert.id == raised[0].alert]
    assert states[0] == "raised"
    assert set(states[1:]) <= {"active", "cleared"}


def raised_in(inputs: Inputs, trust: Trust) -> list[tuple[str, int, int]]:
    """(name, windows in a row, window's end) of every alert that was raised."""
    said = watch(itertools.chain(*inputs.topics(10**6)), trust)
    return [(event.name, event.windows, event.window_end) for event in said if isinstance(event, AlertRaised)]


def in_window(end: int) -> int:
    """The number of an event a minute into the window with this end."""
    return 2 * (end - WINDOW + MINUTE) // MINUTE


def test_a_new_champion_is_not_blamed_for_the_bad_windows_of_the_old_one(trust: Trust) -> None:
    """It comes to serve in the window by which the alert would have been raised, and is as bad."""
    name, count, end = raised_in(inputs(trust), trust)[0]
    changed = Inputs(trust, switches=(SWITCHES[0], in_window(end)))
    assert raised_in(changed, trust)[0] == (name, count, end + WINDOW)


def test_a_switch_that_changes_no_champion_changes_no_count(trust: Trust) -> None:
    """A version that does not serve is revoked, in the window by which an alert is raised."""
    plain = Inputs(trust, switches=(2, 3))
    first = raised_in(plain, trust)[0]
    revoked = Inputs(trust, {in_window(first[2]): trust.switch(3, 3, action="revoke")}, switches=(2, 3))
    assert raised_in(revoked, trust) == raised_in(plain, trust)
    whole, again = (windows(watch(itertools.chain(*found.topics(10**6)), trust)) for found in (plain, revoked))
    assert [one.psi for one in again] == [one.psi for one in whole]


def test_an_alert_that_a_new_spec_no_longer_has_is_cleared_where_the_spec_is_adopted(trust: Trust) -> None:
    inputs = Inputs(trust, turns={500: scene.quieter()})
    said = watch(itertools.chain(*inputs.topics(10**6)), trust)
    raised = {event.alert for event in said if isinstance(event, AlertRaised)}
    cleared = [event for event in said if isinstance(event, AlertCleared)]
    assert raised == {event.alert for event in cleared}, "something stays up for ever"
    withdrawn = [event for event in cleared if event.reason == "withdrawn"]
    assert withdrawn
    assert len({event.position for event in withdrawn}) == 1
    assert not any(window.alerts for window in windows(said) if window.position > withdrawn[0].position)


def test_drift_is_told_of_the_feature_that_moved(trust: Trust) -> None:
    said = watch(itertools.chain(*Inputs(trust, turns={1: with_windows(4 * WINDOW)}, switches=(2, 3)).topics(10**6)), trust)
    raised = [event for event in said if isinstance(event, AlertRaised) and event.name == "shift"]
    assert raised
    assert raised[0].feature in scene.NAMES


@pytest.mark.parametrize("ended", [False, True])
def test_a_gap_of_years_is_told_as_one_window(trust: Trust, ended: bool) -> None:
    """The first record behind it closes the window before it and the gap; or the stream's progress does."""
    row = {"id": "q", "who": "a", "x": 1.0, "loud": True}
    late = 13 * 365 * DAY + 40 * MINUTE
    log = [Record(n, "asks", f"q{n}", at, at, row) for n, at in enumerate((0, 40 * MINUTE, late))]
    records = small.records(scene.bundle(), in_stream(log[:2] if ended else log))
    if ended:
        last = Progressed(seq=0, position=0, stream_time=0, stream="small", ended=True)
        value = wire.frame(small.IDS[last.full_name()], wire.datum(last))
        records.append((log_header.PROGRESSED, 255, late, None, value))
    told = small.fold(records, itertools.repeat(10))
    said = pairs(serve(told, trust, itertools.repeat(10))["predictions"])
    topics = [scene.batches(name, found, itertools.repeat(10)) for name, found in (("features", told), ("predictions", said))]
    found = [(one.window_start, one.window_end, one.predictions) for one in windows(watch(itertools.chain(*topics), trust))]
    begin = late // WINDOW * WINDOW
    assert found[:3] == [(0, WINDOW, 1), (WINDOW, 2 * WINDOW, 1), (2 * WINDOW, begin, 0)]
    assert found[3:] == ([(begin, begin + WINDOW, 0)] if ended else [])


@pytest.mark.parametrize(("length", "lengths"), [(10 * MINUTE, [30, 20, 10, 10]), (120 * MINUTE, [30, 30, 60, 120])])
def test_a_window_that_is_open_when_its_length_changes_is_told_with_its_true_bounds(
    trust: Trust, length: int, lengths: list[int]
) -> None:
    """The spec changes at the 90th event, after 44 and a half minutes: in the second window, which has 15 minutes to go."""
    found = Inputs(trust, turns={90: with_windows(length)})
    said = windows(watch(itertools.chain(*found.topics(10**6)), trust))
    assert [(one.window_end - one.window_start) // MINUTE for one in said[:4]] == lengths
    assert [one.window_end for one in said[:-1]] == [one.window_start for one in said[1:]]
    asked = [int(row["stream_time"]) for name, row in scene.small.parsed(scene.bundle(), found.features) if name == "vector:ask"]
    for one in said:
        assert one.predictions == sum(one.window_start <= time < one.window_end for time in asked)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [3, 50])
def test_neither_arrival_nor_batch_size_nor_a_restart_changes_what_is_said(trust: Trust, seed: int, size: int) -> None:
    whole = watch(itertools.chain(*inputs(trust).topics(10**6)), trust)
    cut = watch(shuffled(inputs(trust).topics(size), seed), trust, reload=seed % 2 == 1)
    for kind in scene.CONTROL_IDS:
        assert [event for event in cut if isinstance(event, kind)] == [event for event in whole if isinstance(event, kind)]


@pytest.mark.parametrize("first_topic", range(3))
def test_no_python_call_is_made_per_event(trust: Trust, first_topic: int) -> None:
    """Windows, alerts and batches are the same few however many events are in them, and whichever topic comes last."""

    def calls(times: int) -> int:
        first, second = SWITCHES
        fold = Monitoring(scene.Schemas(), scene.Store(), trust.ring, "code")
        topics = Inputs(trust, switches=(times * first, times * second), count=times * EVENTS).topics(10**6)
        batches = list(itertools.chain(*topics[first_topic:], *topics[:first_topic]))

        def work() -> None:
            state = fold.initial("small", 0)
            for batch in batches:
                fold.prepare(state, batch)
                state, _ = fold.step(state, batch)

        return calls_of(work)

    calls(1)
    assert abs(calls(10) - calls(1)) < EVENTS // 2


def test_state_is_plain_arrays(trust: Trust) -> None:
    fold = Monitoring(scene.Schemas(), scene.Store(), trust.ring, "code")
    snapshot = fold.dump(fold.initial("small", 0))
    assert all(isinstance(array, np.ndarray) for array in snapshot.arrays.values())


def missing() -> float:
    return REGISTRY.get_sample_value("tidemill_references_missing_total", {"stream": "small", "reason": "no-artifact"}) or 0.0


def test_references_are_kept_for_the_champion_alone_and_a_missing_one_is_asked_for_once_and_counted(trust: Trust) -> None:
    asked: list[str] = []
    before = missing()

    class Store(scene.Store):
        def get_tree(self, digest: str) -> dict[str, bytes]:
            asked.append(digest)
            if digest.endswith("1"):
                raise Rejected("no-artifact", "nobody has it")
            return super().get_tree(digest)

    fold = Monitoring(scene.Schemas(), Store(), trust.ring, "code")
    state = fold.initial("small", 0)
    for batch in shuffled(inputs(trust).topics(20), 1):
        fold.prepare(state, batch)
        state, _ = fold.step(state, batch)
    fold.prepare(state, next(batch for batch in inputs(trust).topics(1)[0]))
    first, second = (f"sha256:{version:064x}" for version in (1, 2))
    assert list(state.references) == [second]
    assert sorted(asked) == [first, second]
    assert missing() == before + 1


def test_a_reference_is_kept_as_long_as_a_switch_that_names_it_waits(trust: Trust) -> None:
    fold = Monitoring(scene.Schemas(), scene.Store(), trust.ring, "code")
    state = fold.initial("small", 0)
    for batch in inputs(trust).topics(20)[0]:  # no prediction comes, so that everything waits
        fold.prepare(state, batch)
        state, _ = fold.step(state, batch)
    named = [f"sha256:{version:064x}" for version in (1, 2)]
    assert list(state.references) == named
    assert list(fold.load("small", 0, fold.dump(state)).references) == named


def test_what_waits_is_not_looked_through_before_a_switch_comes(trust: Trust) -> None:
    looked: list[int] = []

    class Counting(Monitoring):
        def _named(self, ids: Any, values: Sequence[bytes]) -> set[str]:
            looked.append(len(values))
            return super()._named(ids, values)

    fold = Counting(scene.Schemas(), scene.Store(), trust.ring, "code")
    state = fold.initial("small", 0)
    for batch in inputs(trust).topics(1)[0][:100]:
        fold.prepare(state, batch)
        state, _ = fold.step(state, batch)
    assert len(state.values) > 50
    assert looked == [1] * 100
