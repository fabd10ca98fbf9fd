"""Who answers which trigger, and in which bytes."""

from __future__ import annotations

import io
import itertools
from typing import Any

import fastavro
import pytest
from prometheus_client import REGISTRY

from services.serving.fold import Serving
from services.serving.scorers import Scorers
from tests.calls import calls_of
from tests.unit.serving import scene
from tests.unit.serving.scene import EVENTS, SWITCHES, Trust, features, pairs, serve
from tidemill.bus import heads
from tidemill.bus.fold import Rows
from tidemill.errors import Transient
from tidemill.events.predictions import Prediction
from tidemill.models.scorer import Scorer

WHOLE = itertools.repeat(10**6)


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return Trust.made(tmp_path_factory.mktemp("trust"))


def switched(trust: Trust) -> dict[int, Any]:
    return {SWITCHES[0]: trust.switch(1, 1), SWITCHES[1]: trust.switch(2, 2)}


def decoded(rows: list[Rows]) -> list[dict[str, Any]]:
    """What a stock Avro client reads; every datum consumes exactly its bytes."""
    schema, found = fastavro.parse_schema(Prediction.SCHEMA, named_schemas={}), []
    for _, value in pairs(rows):
        stream = io.BytesIO(value[5:])
        found.append(fastavro.schemaless_reader(stream, schema, None))
        assert stream.tell() == len(value) - 5
    return found


def test_every_trigger_has_one_answer_keyed_by_its_id_and_numbered_densely(trust: Trust) -> None:
    said = serve(features(switched(trust)), trust, WHOLE)["predictions"]
    asks = [event.id.encode() for event in scene.events() if event.source == "asks"]
    assert [key for key, _ in pairs(said)] == asks
    assert [int(row["seq"]) for row in decoded(said)] == list(range(EVENTS // 2))


def test_the_champion_changes_at_the_switchs_position_exactly(trust: Trust) -> None:
    versions = [row["version"] for row in decoded(serve(features(switched(trust)), trust, WHOLE)["predictions"])]
    asks = [event.offset for event in scene.events() if event.source == "asks"]
    assert versions == [None if n < SWITCHES[0] else 1 if n < SWITCHES[1] else 2 for n in asks]


def test_before_the_first_switch_the_answer_is_no_model(trust: Trust) -> None:
    row = decoded(serve(features({}), trust, WHOLE)["predictions"])[0]
    assert (row["status"], row["score"], row["decision"], row["threshold"], row["missing"]) == ("no_model", None, None, None, [])


def test_scores_decisions_and_missing_names_are_the_models_own(trust: Trust) -> None:
    records = features(switched(trust))
    rows = [row for row in decoded(serve(records, trust, WHOLE)["predictions"]) if row["version"] == 2]
    vectors = [row for name, row in scene.small.parsed(scene.bundle(), records) if name == "vector:ask"][-len(rows) :]
    scorer = Scorer.load(scene.Store().get_tree(f"sha256:{2:064x}"))
    for row, vector in zip(rows, vectors, strict=True):
        scores, missing = scorer.score(vector.reshape(1))
        assert row["score"] == scores[0]
        assert row["decision"] == (scores[0] >= row["threshold"])
        assert row["missing"] == [name for name, absent in zip(scene.NAMES, missing[0], strict=True) if absent]
    assert any(row["missing"] for row in rows)


def test_the_first_champion_goes_on_as_a_silent_shadow(trust: Trust) -> None:
    shadows = decoded(serve(features(switched(trust)), trust, WHOLE)["shadows"])
    assert {row["version"] for row in shadows} == {1}
    assert len(shadows) == sum(event.source == "asks" and event.offset >= SWITCHES[1] for event in scene.events())
    assert [int(row["seq"]) for row in shadows] == list(range(len(shadows)))


@pytest.mark.parametrize("size", [1, 7, 64])
@pytest.mark.parametrize("reload", [False, True])
def test_the_size_of_a_batch_changes_no_bit(trust: Trust, size: int, reload: bool) -> None:
    records = features(switched(trust))
    whole, cut = serve(records, trust, WHOLE), serve(records, trust, itertools.repeat(size), reload)
    for output in ("predictions", "shadows"):
        assert pairs(cut[output]) == pairs(whole[output])
        assert [head for part in cut[output] for head in part.heads or ()] == [
            head for part in whole[output] for head in part.heads or ()
        ]


@pytest.mark.parametrize(
    "lie",
    [
        {"version": 9},
        {"rollout": 9},
        {"report": "sha256:" + "0" * 64},
        {"author": "ann"},
        {"requester": "ann"},
        {"action": "revoke"},
    ],
)
def test_a_switch_whose_decision_does_not_hold_changes_nothing(trust: Trust, lie: dict[str, Any]) -> None:
    said = decoded(serve(features({SWITCHES[0]: trust.switch(1, 1, lie)}), trust, WHOLE)["predictions"])
    assert {row["status"] for row in said} == {"no_model"}


@pytest.mark.parametrize(("lie", "loaded"), [({}, 1), ({"version": 9}, 0), ({"author": "ann"}, 0)])
def test_an_artifact_is_not_even_fetched_before_its_decision_holds(trust: Trust, lie: dict[str, Any], loaded: int) -> None:
    scorers = Scorers(scene.Store())
    fold = Serving(scene.Schemas(), scorers, trust.ring, "code")
    (batch,) = scene.batches("features", features({SWITCHES[0]: trust.switch(1, 1, lie)}), WHOLE)  # the spec stands in it too
    state = fold.initial("small", 0)
    fold.prepare(state, batch)
    assert len(scorers) == len(state.scorers) == loaded


def test_only_versions_that_score_are_kept_in_memory(trust: Trust) -> None:
    turns = {SWITCHES[0]: trust.switch(1, 1), 200: trust.switch(2, 2), SWITCHES[1]: trust.switch(3, 3)}
    scorers = Scorers(scene.Store())
    fold = Serving(scene.Schemas(), scorers, trust.ring, "code")
    state, held = fold.initial("small", 0), []
    for batch in scene.batches("features", features(turns), itertools.repeat(20)):
        fold.prepare(state, batch)
        state, _ = fold.step(state, batch)
        held.append(sorted(int(artifact[-1]) for artifact in state.scorers))
        assert len(scorers) == len(state.scorers)
    in_order = [now for now, before in zip(held, [None, *held], strict=False) if now != before]
    assert in_order == [[], [1], [1, 2], [1, 2, 3], [1, 3]]  # the first goes on as shadow; while it changes, old and new score


def test_an_older_rollout_changes_nothing(trust: Trust) -> None:
    replayed = {SWITCHES[0]: trust.switch(2, 2), SWITCHES[1]: trust.switch(1, 1)}
    assert {row["version"] for row in decoded(serve(features(replayed), trust, WHOLE)["predictions"])} == {None, 2}


class Away(scene.Store):
    """A store that is away when it is asked first."""

    asked = False

    def get_tree(self, digest: str) -> dict[str, bytes]:
        if not self.asked:
            self.asked = True
            raise Transient("the store is away")
        return super().get_tree(digest)


def ignored() -> list[float]:
    return [
        REGISTRY.get_sample_value("tidemill_switches_ignored_total", {"stream": "small", "reason": reason}) or 0.0
        for reason in ("other-subject", "old-rollout")
    ]


def test_a_switch_that_does_not_hold_is_counted_once_however_often_its_batch_comes(trust: Trust) -> None:
    turns = {100: trust.switch(3, 3, {"version": 9}), SWITCHES[0]: trust.switch(2, 2), SWITCHES[1]: trust.switch(1, 1)}
    fold, before = Serving(scene.Schemas(), Scorers(Away()), trust.ring, "code"), ignored()
    state = fold.initial("small", 0)
    (batch,) = scene.batches("features", features(turns), WHOLE)
    with pytest.raises(Transient):
        fold.prepare(state, batch)
    fold.prepare(state, batch)
    fold.step(state, batch)
    assert ignored() == [count + 1 for count in before]


def test_the_envelope_names_cause_and_place(trust: Trust) -> None:
    rows = serve(features(switched(trust)), trust, WHOLE)["predictions"][0]
    assert rows.heads is not None
    head, row = dict(heads.read(rows.heads[3])), decoded([rows])[3]
    assert head["ce_id"] == rows.keys[3] + b"/m"
    assert (int(head["tidemill-seq"]), int(head["tidemill-position"])) == (3, int(row["position"]))
    assert head["ce_time"].endswith(b"Z")


def test_a_step_makes_no_python_call_per_event(trust: Trust) -> None:
    fold = Serving(scene.Schemas(), Scorers(scene.Store()), trust.ring, "code")
    state = fold.initial("small", 0)
    first, second = scene.batches("features", features(switched(trust)), iter([350, 10**6]))
    fold.prepare(state, first)
    state, _ = fold.step(state, first)
    fold.prepare(state, second)

    assert len(second) > 250
    assert calls_of(lambda: fold.step(state, second)) < 2_500  # two stretches, a switch that is verified, four kinds of rows
