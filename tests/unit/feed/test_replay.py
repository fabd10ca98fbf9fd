"""R20: a replay waits for windows and decisions, and for nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest

from tidemill.cli.feed import TICK, paced
from tidemill.errors import Refused
from tidemill.events import governance, ingest, progress, training
from tidemill.events.base import Event
from tidemill.feed.gate import FOREVER, Gate
from tidemill.feed.replay import DAY, Replay
from tidemill.feed.timeline import Lane, Timeline

HOUR = DAY // 24
SCHEMA = {"type": "record", "name": "E", "fields": [{"name": "id", "type": "string"}]}


def lane(source: str, *known: int) -> Lane:
    rows = pd.DataFrame({"id": [f"{source}-{at}" for at in known]})
    return Lane(source, np.array(known, np.int64), rows, SCHEMA, "id", b"\0\0\0\0\1")


@dataclass
class Tape:
    """Remembers what was appended, in order."""

    said: list[tuple[str, str]] = field(default_factory=list)

    def send(self, source: str, records: Iterable[tuple[bytes, bytes]]) -> int:
        keys = [key.decode() for key, _ in records]
        self.said += [("event", key) for key in keys]
        return len(keys)

    def promise(self, source: str, until: int, ended: bool) -> None:
        self.said.append(("ended" if ended else "until", f"{source}-{until // HOUR}"))

    def flush(self) -> None:
        pass


def judged(day: int, run: str | None = None, hold: int | None = None) -> progress.Progress:
    return progress.Progress(service="training", model="m", event_time=day * DAY, position=0, run=run, hold=hold)


def gate() -> Gate:
    return Gate("s", {"m": DAY}, 0)


def switched(run: str) -> ingest.SwitchAppended:
    return ingest.SwitchAppended(
        stream="s", model="m", version=1, artifact="", rollout=1, action="promote", order="", approval="", run=run,
        partition=0, offset=0, effective_at=0,
    )  # fmt: skip


def replay(heard: list[Event], tape: Tape) -> Replay:
    def listen(_: float) -> list[Event]:
        return [heard.pop(0)] if heard else []

    timeline = Timeline((lane("a", 1 * HOUR, 25 * HOUR, 31 * HOUR), lane("b", 2 * HOUR, 49 * HOUR)))
    return Replay(timeline, gate(), tape, listen)


def test_a_feed_stays_one_window_ahead_of_the_newest_judged_one() -> None:
    assert gate().limit == DAY
    assert gate().hear(judged(1)).limit == 2 * DAY


def test_an_open_cause_holds_the_feed_at_its_turnaround() -> None:
    held = gate().hear(judged(1, "r1", DAY + 6 * HOUR))
    assert held.limit == DAY + 6 * HOUR
    assert held.hear(switched("r1")).limit == 2 * DAY


def test_an_approval_does_not_open_the_gate_but_a_rejection_does() -> None:
    def decided(verdict: str) -> governance.ApprovalDecided:
        return governance.ApprovalDecided(
            approval="x", stream="s", model="m", version=1, run="r1", verdict=verdict, approvers=[], reason="", envelopes=[], decided_at=0,
        )  # type: ignore[arg-type]  # fmt: skip

    held = gate().hear(judged(1, "r1", DAY + 6 * HOUR))
    assert not held.hear(decided("approved")).idle
    assert held.hear(decided("rejected")).idle
    assert held.hear(decided("lapsed")).idle


def test_an_end_heard_before_its_beginning_still_counts() -> None:
    early = gate().hear(switched("r1")).hear(judged(1, "r1", DAY + HOUR))
    assert early.idle


def test_another_streams_run_does_not_hold_this_feed() -> None:
    other = training.RunRequested(
        run="r9", stream="t", model="m", cause_kind="manual", cause_id="c", cause_detail="", partition=0, position=0, at_time=0,
        effective_at=1, requester="x", spec_digest="",
    )  # fmt: skip
    assert gate().hear(other).idle


def test_events_go_in_known_order_with_a_promise_after_each_stretch_and_an_end() -> None:
    tape = Tape()
    sent = replay([judged(1, "r1", 30 * HOUR), switched("r1"), judged(2), judged(3)], tape).run(0, 2**62)
    assert tape.said == [
        ("until", "a-1"), ("until", "b-1"),
        ("event", "a-" + str(1 * HOUR)), ("event", "b-" + str(2 * HOUR)), ("until", "a-24"), ("until", "b-24"),
        ("event", "a-" + str(25 * HOUR)), ("until", "a-30"), ("until", "b-30"),
        ("event", "a-" + str(31 * HOUR)), ("until", "a-48"), ("until", "b-48"),
        ("event", "b-" + str(49 * HOUR)), ("ended", "a-49"), ("ended", "b-49"),
    ]  # fmt: skip
    assert sent.events == {"a": 3, "b": 2}


def test_many_events_go_in_stretches_with_promises_between() -> None:
    tape = Tape()
    timeline = Timeline((lane("a", *range(1, 6), 6, 6, 6, 6), lane("b", 2, 2**40)))
    Replay(timeline, Gate("s", {}, 0), tape, lambda _: [], stretch=2).run(0, 2**39, hold=False)
    stretches = "".join(key[0] if what == "event" else "|" for what, key in tape.said).replace("||", "|").split("|")
    assert [part for part in stretches if part] == ["aab", "aa", "a", "aaaa"]
    assert tape.said[-2][0] == "until"


def test_a_feed_that_ends_early_promises_but_does_not_end_its_sources() -> None:
    tape = Tape()
    replay([judged(1)], tape).run(0, 26 * HOUR)
    assert tape.said[-2:] == [("until", "a-26"), ("until", "b-26")]


@pytest.mark.parametrize("hours", [0, 10, 23])
def test_a_feed_that_ends_before_its_first_window_waits_for_no_judgement(hours: int) -> None:
    replay([], Tape()).run(0, hours * HOUR)


def test_without_holding_the_feed_listens_to_nobody() -> None:
    tape = Tape()
    replay([], tape).run(0, 2**62, hold=False)
    assert tape.said[-1][0] == "ended"


def test_a_feed_of_a_stream_without_models_waits_for_nothing() -> None:
    assert Gate("s", {}, 0).limit > 2**61


@dataclass
class Clock:
    """Wall time that only passes while somebody waits or looks."""

    now: float = 0.0
    waits: list[float] = field(default_factory=list)

    def look(self) -> float:
        self.now += TICK / 1_000
        return self.now

    def listen(self, wait: float) -> list[Event]:
        self.waits.append(wait)
        self.now += wait
        return []


def test_a_paced_feed_follows_the_clock_with_one_promise_a_tick() -> None:
    clock, tape, timeline = Clock(), Tape(), Timeline((lane("a", *range(HOUR, 3 * HOUR, HOUR // 60)),))
    Replay(timeline, Gate("s", {}, 0), tape, clock.listen, paced(HOUR, 3_600, clock.look)).run(0, 3 * HOUR, hold=False)
    assert clock.now == pytest.approx(2.0, abs=2 * TICK), "two hours of events at an hour a second"
    assert sum(what == "event" for what, _ in tape.said) == 120
    assert sum(what != "event" for what, _ in tape.said) <= clock.now / TICK + 2
    assert sum(wait == 0 for wait in clock.waits) <= clock.now / TICK + 2, "it waits for the clock, and does not spin"


def test_a_paced_feed_promises_nothing_while_nothing_happens() -> None:
    clock, tape, timeline = Clock(), Tape(), Timeline((lane("a", HOUR, 2 * HOUR, 3 * HOUR),))
    Replay(timeline, Gate("s", {}, 0), tape, clock.listen, paced(HOUR, 3_600, clock.look)).run(0, 2**61, hold=False)
    assert [what for what, _ in tape.said] == ["until", "event", "until", "event", "until", "event", "ended"]


def test_an_unpaced_feed_is_never_held_by_the_clock() -> None:
    assert paced(0, None)() == FOREVER


@pytest.mark.parametrize("speed", [0.0, -1.0])
def test_a_speed_that_is_none_is_refused(speed: float) -> None:
    with pytest.raises(Refused, match="bad-speed"):
        paced(0, speed)
