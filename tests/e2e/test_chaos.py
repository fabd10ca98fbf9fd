"""Kills at random moments, through the real pipeline: what comes out is what an undisturbed run makes of the same log.

`TIDEMILL_TEST_SEED=<printed seed>` repeats a campaign's kills and repeats.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

import numpy as np
import pytest

from tests.e2e import chaos_audit as audit
from tests.e2e.chaos_site import DAY, FLIGHTS, Ends, Feed, Site, late_batch, seat, seed, tell, until
from tidemill.bus.control_client import read_all
from tidemill.bus.fold import Batch
from tidemill.events import log_header
from tidemill.events.columnar import Decoder
from tidemill.events.deadletters import DeadLetter
from tidemill.events.predictions import Prediction
from tidemill.settings import Settings

DATA_PLANE = ("ingest", "feature-store", "serving")
STREAM = "flights"
STACK = "stack"
PIECE = 250
"""Events between two promises of the feed; its random moments are multiples of it."""
AHEAD = 1_500
"""Predictions that the feed may be ahead of serving, so that there is work at every moment."""


@dataclass(frozen=True)
class Campaign:
    """How much is fed, and what is killed how often."""

    events: int
    kills: dict[str, int]
    restart: bool = False
    """Whether the whole stack is ended once in the middle, and started again."""

    def plan(self, chance: random.Random) -> list[tuple[int, str]]:
        """(after so many events, whom), in order."""
        names = [name for name, times in self.kills.items() for _ in range(times)]
        chance.shuffle(names)
        kills = zip(sorted(chance.sample(range(self.events // 10, self.events), len(names))), names, strict=True)
        return sorted([*kills, *([(self.events // 2, STACK)] if self.restart else [])])


def test_one_kill_each_and_a_second_up_change_nothing_of_what_comes_out(site: Site) -> None:
    survive(site, Campaign(20_000, dict.fromkeys(DATA_PLANE, 1), restart=True))


@pytest.mark.chaos
def test_three_kills_each_and_one_of_the_broker_change_nothing_of_what_comes_out(site: Site) -> None:
    survive(site, Campaign(100_000, dict.fromkeys(DATA_PLANE, 3) | {"kafka": 1}))


def survive(site: Site, campaign: Campaign) -> None:
    """Feed, kill, and compare."""
    number = seed()
    chance = random.Random(number)
    tell(f"TIDEMILL_TEST_SEED={number}")
    with site.up("--only", ",".join(DATA_PLANE), TIDEMILL_SNAPSHOT_SECONDS="1") as settings:
        site.tidemill("apply", str(FLIGHTS), "--author", "bob")
        feed, ends = Feed(settings, chance), Ends(settings)
        try:
            late = disturb(site, settings, campaign, feed, ends, chance)
            until(lambda: ends(f"predictions.{STREAM}") >= feed.sent["departures"], "all predictions")
            compare(settings, feed, late)
            assert {name: len(pids) for name, pids in site.killed.items()} == campaign.kills
        finally:
            feed.close()
            ends.close()


def disturb(site: Site, settings: Settings, campaign: Campaign, feed: Feed, ends: Ends, chance: random.Random) -> int:
    """Feed everything, and kill on the way; the size of the late batch that a dead ingest left."""
    plan, late = campaign.plan(chance), 0
    seat_at = feed.begin + DAY
    feed.send(seat_at)
    seat(settings, feed.bundle, seat_at, site.home / "private")
    for limit in feed.marks(campaign.events, PIECE):
        if limit <= feed.until:
            continue
        feed.send(limit)
        while plan and plan[0][0] <= feed.sent.total():
            moment, name = plan.pop(0)
            if name == STACK:
                site.end_and_start()
            else:
                time.sleep(chance.uniform(0, 0.2))  # the moment of the kill, not a wait
                site.kill(name)
            tell(f"ended {name} after {moment} events")
        if site.killed.get("ingest") and not late:
            late = until(lambda: late_batch(settings, STREAM), "the next ingest's barrier")
        until(lambda: ends(f"predictions.{STREAM}") > feed.sent["departures"] - AHEAD, "predictions")
    feed.send_rest()
    assert not plan
    return late


def compare(settings: Settings, feed: Feed, late: int) -> None:
    """The log, against what was fed; the rest, against the undisturbed folds of that log."""
    rows, kept = audit.valid(audit.messages_of(settings, f"log.{STREAM}"))
    events = rows["kind"] == log_header.EVENT
    said = [(int(rows["source"][at]), kept[at].key()) for at in np.flatnonzero(events).tolist()]
    assert len(said) == len(set(said)) == feed.sent.total()
    assert said == feed.expected()
    assert audit.raw_is_accounted_for(settings, STREAM, feed.names, rows, kept) == feed.repeats > 0
    assert not [one for one in read_all(settings, [DeadLetter]) if one.event.topic.startswith("raw.")]  # type: ignore[attr-defined]
    the_switch_is_in_its_place(feed, rows)
    assert rows["stream"].tolist() == audit.stream_times(rows)
    logged = audit.taken(settings, "log", STREAM)
    assert logged.batch.values.tolist() == [message.value() for message in kept]
    assert late > 0 and logged.physical - len(logged.batch) >= late
    features, predictions = audit.undisturbed(settings, logged.batch)
    assert audit.taken(settings, "features", STREAM).batch.values.tolist() == features.values.tolist()
    the_predictions_are(audit.taken(settings, "predictions", STREAM), predictions, feed)


def the_switch_is_in_its_place(feed: Feed, rows: np.ndarray) -> None:
    """Behind all that is known before its time, before all else."""
    (place,) = np.flatnonzero(rows["kind"] == log_header.MODEL_SWITCHED).tolist()
    events = rows["kind"] == log_header.EVENT
    seat_at = feed.begin + DAY
    assert rows["known"][:place][events[:place]].max() < seat_at <= rows["known"][place:][events[place:]].min()


def the_predictions_are(found: audit.Taken, wanted: Batch, feed: Feed) -> None:
    """One for each departure, for a plain consumer too; the same bytes as the undisturbed fold's."""
    assert found.pairs == list(zip(wanted.keys.tolist(), wanted.values, strict=True))
    assert found.physical == len(found.batch) == len(set(found.batch.keys)) == feed.sent["departures"]
    frame = Decoder(Prediction.SCHEMA).decode(found.batch.values).frame
    scored = frame.filter(frame["status"] == "scored")
    assert set(frame["status"]) == {"no_model", "scored"}
    assert scored["version"].unique().to_list() == [1]
    assert scored["score"].n_unique() > min(len(scored) / 2, 10_000), "the model tells vectors apart"
