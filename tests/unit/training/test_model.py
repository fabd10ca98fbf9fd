"""When a model is retrained, and why not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.training.model import Alert, Asked, Cause, History, Window, across, judge, manual, run_id
from tidemill.spec.model import Retrain

DAY = 86_400_000_000
POLICY = Retrain.model_validate(
    {
        "on": [{"labels": 1000}, {"alert": "performance"}, {"alert": "drift"}, {"every": "30d"}, "manual"],
        "cool_down": "7d",
        "budget": "3 in 30d",
        "turnaround": "6h",
    }
)
DRIFT, PERFORMANCE = Alert("drift-1", "drift"), Alert("performance-1", "performance", "critical")


def window(day: int, labels: int = 0, *alerts: Alert, champion: int | None = 1) -> Window:
    return Window("flights", "late", 0, (day - 1) * DAY, day * DAY, day * 1000, labels, champion, alerts)


def asked(day: int, *, still_open: bool = False, run: str = "") -> Asked:
    return Asked(run or f"run-{day}", day * DAY, day * DAY + DAY // 4, still_open)


def cause(judgement) -> tuple[str, str] | None:
    return (judgement.run.kind, judgement.run.detail) if judgement.run else None


def test_the_first_model_comes_with_the_first_labels() -> None:
    assert judge(POLICY, window(3, 999, champion=None), History(begin=0)).run is None
    assert cause(judge(POLICY, window(4, 1000, champion=None), History(begin=0))) == ("labels", "1000 labels")


def test_labels_are_no_cause_once_a_champion_serves() -> None:
    assert judge(POLICY, window(9, 9999), History(begin=0)).run is None


def test_where_the_first_model_never_served_twice_the_labels_are_another_cause() -> None:
    first = judge(POLICY, window(4, 1000, champion=None), History()).run
    assert first is not None
    history = History((asked(4),), frozenset([first.id]))
    assert judge(POLICY, window(12, 1999, champion=None), history).run is None
    assert cause(judge(POLICY, window(13, 2000, champion=None), history)) == ("labels", "2000 labels")


def test_labels_are_those_of_all_shards_in_their_newest_windows() -> None:
    mine, other = window(4, 600, champion=None), replace(window(3, 399, champion=None), partition=1)
    assert judge(POLICY, across(mine, [mine, other]), History()).run is None
    grown = replace(window(4, 400, champion=None), partition=1)
    found = across(grown, [mine, grown])
    assert cause(judge(POLICY, found, History())) == ("labels", "1000 labels")
    assert (found.partition, found.position) == (grown.partition, grown.position)


def test_a_shard_that_has_not_met_the_switch_yet_asks_for_no_first_model() -> None:
    late, ahead = replace(window(8, 1000, champion=None), partition=1), window(9, 1000, champion=1)
    assert judge(POLICY, across(late, [ahead, late]), History()).run is None


def test_after_a_champion_was_revoked_a_quiet_shard_that_knew_it_holds_nothing_up() -> None:
    quiet, ahead = replace(window(8, 1000, champion=1), partition=1), window(9, 1000, champion=None)
    assert cause(judge(POLICY, across(ahead, [ahead, quiet]), History())) == ("labels", "2000 labels")


@pytest.mark.parametrize("alert", [DRIFT, PERFORMANCE])
def test_an_alert_is_a_cause_once(alert: Alert) -> None:
    found = judge(POLICY, window(20, 0, alert), History((asked(1),))).run
    assert found is not None
    assert (found.kind, found.id) == ("alert", alert.id)
    served = History((asked(1), asked(20)), frozenset([alert.id]))
    assert judge(POLICY, window(28, 0, alert), served).run is None


def test_an_alert_that_the_policy_does_not_name_is_no_cause() -> None:
    assert judge(POLICY, window(20, 0, Alert("x", "latency")), History((asked(1),))) == judge(
        POLICY, window(20), History((asked(1),))
    )


def test_of_two_causes_the_policys_first_gives_the_run_and_the_other_is_declined() -> None:
    judgement = judge(POLICY, window(20, 0, DRIFT, PERFORMANCE), History((asked(1),)))
    assert judgement.run is not None
    assert judgement.run.id == PERFORMANCE.id
    run = run_id("flights", "late", judgement.run)
    assert [(cause.id, reason) for cause, reason in judgement.declined] == [(DRIFT.id, f"run {run} is open")]


def test_the_schedule_counts_from_the_last_request() -> None:
    history = History((asked(10),))
    assert judge(POLICY, window(39), history).run is None
    assert cause(judge(POLICY, window(40), history)) == ("schedule", "every 30d")


def test_the_schedule_waits_for_the_first_model_where_labels_are_to_give_it() -> None:
    assert judge(POLICY, window(90, champion=None), History(begin=0)).run is None


def test_without_a_first_count_of_labels_the_schedule_counts_from_the_begin() -> None:
    policy = Retrain.model_validate({"on": [{"every": "30d"}]})
    assert judge(policy, window(29), History(begin=0)).run is None
    assert cause(judge(policy, window(30), History(begin=0))) == ("schedule", "every 30d")


def test_cool_down_declines_until_it_is_over_and_says_so_once() -> None:
    history = History((asked(10),))
    (declined, reason), *others = judge(POLICY, window(12, 0, DRIFT), history).declined
    assert not others
    assert declined.id == DRIFT.id
    assert reason == "cool-down of 7d since the last run, until 1970-01-18T00:00:00Z"
    said = History(history.runs, declined=frozenset([DRIFT.id]))
    assert judge(POLICY, window(13, 0, DRIFT), said).declined == []
    assert judge(POLICY, window(16, 0, DRIFT), said).run is None
    assert cause(judge(POLICY, window(17, 0, DRIFT), said)) == ("alert", "alert drift")


def test_the_budget_counts_requests_in_its_stretch_of_event_time() -> None:
    history = History((asked(1), asked(10), asked(20)))
    assert judge(POLICY, window(30, 0, DRIFT), history).declined[0][1] == "budget of 3 in 30d is spent"
    assert judge(POLICY, window(31, 0, DRIFT), history).run is not None


def test_the_budget_is_the_streams_and_not_the_shards() -> None:
    history = History((asked(1), asked(10), asked(20)))
    other = replace(window(30, 0, DRIFT), partition=1)
    assert judge(POLICY, other, history).declined[0][1] == "budget of 3 in 30d is spent"


def test_one_run_is_open_at_a_time_also_by_event_time() -> None:
    policy = Retrain.model_validate({"on": [{"alert": "drift"}], "turnaround": "6h"})
    running = History((asked(10, still_open=True),))
    assert judge(policy, window(30, 0, DRIFT), running).declined[0][1] == "run run-10 is open"
    early = Window("flights", "late", 0, 0, 10 * DAY + 1, 1, 0, 1, (DRIFT,))
    assert judge(policy, early, History((asked(10),))).run is None, "a replay may be quick: what counts is the turnaround"


def test_people_are_held_to_the_budget_but_not_to_the_cool_down() -> None:
    please = Cause("manual", "id", "because")
    assert manual(POLICY, please, 11 * DAY, History((asked(10),))) is None
    assert manual(POLICY, please, 11 * DAY, History((asked(10, still_open=True),))) == "run run-10 is open"
    assert manual(POLICY, please, 21 * DAY, History((asked(1), asked(10), asked(20)))) == "budget of 3 in 30d is spent"
    never = Retrain.model_validate({"on": [{"every": "30d"}]})
    assert manual(never, please, 11 * DAY, History()) == "the model's spec does not list `manual` under retrain.on"


def test_a_run_has_the_same_id_for_the_same_cause() -> None:
    one, other = Cause("alert", "a", "x"), Cause("alert", "b", "x")
    assert run_id("s", "m", one) == run_id("s", "m", one)
    assert len({run_id("s", "m", one), run_id("s", "m", other), run_id("s", "n", one)}) == 3
