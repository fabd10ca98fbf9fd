"""The tree is built of parent and link ids alone."""

from __future__ import annotations

from dataclasses import replace

from tests.trees import shape
from tidemill.cli.trace import joined, whole
from tidemill.telemetry.tree import Forest, Key, Span


def span(
    name: str, trace: str, parent: str | None = None, links: tuple[Key, ...] = (), begin: int = 0, **attributes: object
) -> Span:
    return Span((trace, name), parent, name, "s", begin, begin + 1, dict(attributes), links)


EVENT = [
    span("raw", "e", begin=0),
    span("log", "e", "raw", begin=1),
    span("vector", "e", "log", begin=2),
    span("prediction", "e", "vector", (("run", "control"),), begin=3),
]
ARRIVAL = [
    span("raw-a", "a", begin=90),
    span("log-a", "a", "raw-a", begin=91),
    span("outcome", "a", "log-a", (("e", "vector"),), begin=92),
]
RUN = [span("requested", "run", begin=-9), span("switch", "run", "requested", begin=-8), span("control", "run", "switch", begin=-7)]


def test_one_event_leads_to_its_outcome_and_to_the_switch_that_made_its_model_champion() -> None:
    (tree,) = Forest([*ARRIVAL, *RUN, *EVENT]).trees(["e"])
    assert shape(tree) == {
        "raw": [
            {
                "log": [
                    {
                        "vector": [
                            {"prediction": [{"links to: requested": [{"switch": ["control"]}]}]},
                            {"linked from: raw-a": [{"log-a": ["outcome"]}]},
                        ]
                    }
                ]
            }
        ]
    }


def test_a_label_that_bears_its_triggers_id_is_shown_below_it() -> None:
    """Both are found by the id, and the label's record may even have come first."""
    forest = Forest([*(replace(one, begin=one.begin - 500) for one in ARRIVAL), *EVENT])
    (tree,) = forest.trees(["a", "e"])
    assert tree.span.name == "raw"
    assert "linked from: raw-a" in str(shape(tree))


def test_the_thousands_that_a_champion_answered_are_only_counted() -> None:
    predictions = [span("prediction", f"e{number}", None, (("run", "control"),)) for number in range(1_000)]
    (tree,) = Forest([*RUN, *predictions]).trees(["run"])
    assert tree.children[0].children[0].more == 1_000


def test_spans_of_batches_are_on_nobodys_way() -> None:
    poll = span("poll log.s", "p", None, (("e", "log"),), **{"messaging.batch.message_count": 3})
    (tree,) = Forest([*EVENT, poll]).trees(["e"])
    assert "poll" not in str(shape(tree))


def test_what_lost_its_parent_is_still_shown() -> None:
    roots = Forest([one for one in EVENT if one.name != "log"]).trees(["e"])
    assert [shape(root) for root in roots] == ["raw", {"vector": ["prediction"]}]


def test_links_in_a_circle_end() -> None:
    one, two = span("one", "1", None, (("2", "two"),)), span("two", "2", None, (("1", "one"),))
    assert [shape(root) for root in Forest([one, two]).trees(["1"])] == [{"one": ["links to: two"]}]


def test_an_event_without_its_prediction_is_not_all_of_it() -> None:
    assert whole(Forest(EVENT).trees(["e"]))
    assert not whole(Forest(EVENT[:2]).trees(["e"]))
    assert not whole(Forest([EVENT[0], replace(EVENT[3], parent="raw")]).trees(["e"])), "nor is one that no log has"
    assert not whole([])


def test_of_a_decision_spans_are_never_surely_all_though_events_that_it_answered_are_below_it() -> None:
    assert not whole(Forest(RUN).trees(["run"]))
    (tree,) = Forest([*RUN, *EVENT]).trees(["run"])
    assert "linked from: raw" in str(shape(tree))
    assert not whole([tree])
    assert not whole(Forest([*RUN, *EVENT]).trees(["run", "e"]))


def test_what_the_records_tell_stands_where_its_span_was_lost_and_takes_in_what_lost_its_parent() -> None:
    told = [span("requested", "run"), span("switch", "run", "requested"), span("control", "run", "switch")]
    (requested, _, control), worked = RUN, span("worked", "run", "requested", begin=-9)
    (tree,) = Forest(joined([requested, worked, replace(control, parent="lost")], told)).trees(["run"])
    assert shape(tree) == {"requested": ["worked", {"switch": ["control"]}]}
    below = replace(RUN[1], parent="worked")
    had = [requested, worked, below, control]
    assert sorted(joined(had, told), key=had.index) == had, "who has its parent keeps it"
