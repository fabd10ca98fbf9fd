"""One run without a broker: the artifact, its figures, and that the same request gives the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.lib.recfunctions import drop_fields
from sklearn.metrics import log_loss

from services.training.errors import RunFailed
from services.training.fit.code import code_digest
from services.training.fit.dataset import build
from services.training.fit.run import fit
from services.training.fit.split import split
from services.training.fit.trees import candidates
from tests.unit.training import synthetic
from tests.unit.training.synthetic import BUNDLE, MODEL, past, request, roster
from tidemill.events.training import DatasetBuilt, RunCompleted
from tidemill.models.reference import Reference
from tidemill.models.rollout import Roster, Seat, Seats
from tidemill.models.scorer import Scorer
from tidemill.models.trees import Booster
from tidemill.spec import Bundle
from tidemill.store import Store, digest_of

N = 6_000


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(f"file://{tmp_path_factory.mktemp('store')}")


@pytest.fixture(scope="module")
def told() -> list[DatasetBuilt]:
    return []


@pytest.fixture(scope="module")
def done(store, told) -> RunCompleted:
    return fit(request(N), [past(N)], roster(), store, told.append)


@pytest.fixture(scope="module")
def files(store, done) -> dict[str, bytes]:
    return store.get_tree(done.artifact)


def test_the_artifact_has_all_files_and_the_report_a_digest_of_its_own(files, done, store) -> None:
    assert set(files) == {
        "model.ubj", "encoding.json", "reference.json", "report.json", "MLmodel", "model-card.md", "lineage.json",
    }  # fmt: skip
    assert digest_of(files["report.json"]) == done.report
    assert store.get(done.report) == files["report.json"]


def test_the_dataset_was_told_and_lies_in_the_store(told, done, store) -> None:
    (built,) = told
    assert (built.dataset, built.rows, built.run) == (done.dataset, done.rows, done.run)
    assert store.get(built.dataset)[:4] == b"PAR1"
    assert (built.from_position, built.to_position) == (0, 2 * N)


def test_the_figures_are_of_the_newest_rows_and_of_the_model_that_was_kept(files, done) -> None:
    dataset = build([past(N)], BUNDLE, request(N))
    test = BUNDLE.models[MODEL].training.split.test
    rows = split(dataset.times, test, synthetic.DAY).test
    scores, _ = Scorer.load(files).score(dataset.take(rows))
    assert done.metrics["rows"] == len(rows)
    assert done.metrics["log_loss"] == pytest.approx(log_loss(dataset.labels[rows], scores))
    assert done.metrics["log_loss"] < done.baseline["log_loss"], "the label is no linear function"
    assert set(done.metrics) == set(done.baseline) == {"log_loss", "auc", "brier", "calibration_error", "rows", "positives"}
    assert (done.champion, done.champion_version) == ({}, None)


def test_the_report_shows_months_slices_calibration_importance_and_trials(files, done) -> None:
    report = json.loads(files["report.json"])
    assert report["figures"]["candidate"] == done.metrics
    assert sum(row["candidate"]["rows"] for row in report["months"]) == done.metrics["rows"]
    assert sum(row["rows"] for row in report["calibration"]) == done.metrics["rows"]
    assert {row["feature"] for row in report["slices"]} == {"event__carrier", "event__origin"}
    assert next(iter(json.loads(files["reference.json"])["importance"])) == "event__dep_delay"
    assert sum(report["importance"].values()) == pytest.approx(1)
    assert len(report["trials"]) == BUNDLE.models[MODEL].training.candidates.xgboost.trials


def test_the_describing_files_say_where_it_comes_from(files, done) -> None:
    lineage = json.loads(files["lineage.json"])
    assert lineage["dataset"] == done.dataset
    assert lineage["fold_code"] == "c0de" * 4
    assert lineage["code"] == done.code_digest == code_digest()
    assert lineage["log"] == {"partition": 0, "from": 0, "to": 2 * N, "until": request(N).at_time}
    card = files["model-card.md"].decode()
    assert "# late-arrival" in card
    assert f"| this version | {done.metrics['log_loss']:.4f} |" in card


def test_where_other_partitions_were_read_the_lineage_tells_how_far(store) -> None:
    both = [past(N), replace(past(N, seed=1), partition=1, records=2 * N - 5)]
    done = fit(request(N), both, roster(), store, lambda built: None)
    assert json.loads(store.get_tree(done.artifact)["lineage.json"])["log"] == {
        "partition": 0, "from": 0, "to": 2 * N, "until": request(N).at_time, "others": {"1": 2 * N - 5},
    }  # fmt: skip


def test_mlflow_would_find_trees_that_xgboost_loads(files) -> None:
    described = yaml.safe_load(files["MLmodel"])
    flavour = described["flavors"]["xgboost"]
    booster = Booster()
    booster.load_model(bytearray(files[flavour["data"]]))
    assert booster.num_features() == len(json.loads(described["signature"]["inputs"]))


def test_the_reference_is_of_the_training_rows(files, done) -> None:
    reference = Reference.from_json(files["reference.json"])
    assert reference.rows < done.rows - done.metrics["rows"]
    assert dict(reference.test) == done.metrics


def test_a_champion_is_measured_on_the_same_rows(store, done) -> None:
    bigger = N + 10 * synthetic.PER_DAY
    serving = Roster("flights", BUNDLE.to_json(), {MODEL: Seats(Seat(3, done.artifact), None, 1)})
    again = fit(request(bigger), [past(bigger)], serving, store, lambda built: None)
    assert again.champion_version == 3
    assert again.champion["rows"] == again.metrics["rows"] == again.baseline["rows"]
    assert again.champion["log_loss"] != again.metrics["log_loss"]
    months = json.loads(store.get(again.report))["months"]
    assert all({"candidate", "baseline", "champion"} <= set(month) for month in months)


def without_delay() -> Bundle:
    """The flights' spec after an operator took a feature from the model file."""
    content = BUNDLE.model_dump(mode="json", by_alias=True)
    content["models"][MODEL]["features"]["event"].remove("dep_delay")
    return Bundle.model_validate(content)


def test_a_champion_is_measured_by_all_it_reads_though_the_model_file_has_dropped_a_feature(store, done) -> None:
    serving = Roster("flights", without_delay().to_json(), {MODEL: Seats(Seat(3, done.artifact), None, 1)})
    again = fit(request(N), [past(N)], serving, store, lambda built: None)
    assert again.champion == done.metrics
    assert "event__dep_delay" not in Scorer.load(store.get_tree(again.artifact)).encoding.names


def test_what_the_vectors_no_longer_have_is_missing_to_the_champion(store, done) -> None:
    source = past(N)
    missing = [source.vectors[0].copy()]
    missing[0]["event__dep_delay"] = np.nan
    gone = [drop_fields(source.vectors[0], "event__dep_delay", usemask=False)]
    serving = Roster("flights", without_delay().to_json(), {MODEL: Seats(Seat(3, done.artifact), None, 1)})
    one, other = (
        fit(request(N), [replace(source, vectors=found)], serving, store, lambda built: None) for found in (missing, gone)
    )
    assert one.champion == other.champion
    assert one.champion["log_loss"] > done.metrics["log_loss"]


def test_the_same_request_gives_the_same_artifact_in_other_processes_and_on_one_core(done) -> None:
    code = Path(synthetic.__file__)
    command = [sys.executable, "-m", "tests.unit.training.synthetic", str(N)]
    alone = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]
    other = {**os.environ, "PYTHONPATH": str(code.parents[3]), "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "3"}
    fits = [subprocess.Popen(prefix + command, env=other, stdout=subprocess.PIPE, text=True) for prefix in ([], alone)]
    found = [one.communicate()[0].strip() for one in fits]
    assert [one.returncode for one in fits] == [0, 0]
    assert found == [done.artifact, done.artifact]


def test_another_seed_draws_other_trials_after_the_same_first() -> None:
    assert candidates(8, 7) == candidates(8, 7)
    assert candidates(8, 7)[1:] != candidates(8, 8)[1:]
    assert {**candidates(8, 7)[0], "seed": 8} == candidates(8, 8)[0]


def test_rows_too_few_or_of_one_class_fail_the_run(store) -> None:
    with pytest.raises(RunFailed, match="too-few-rows"):
        fit(request(5 * synthetic.PER_DAY), [past(5 * synthetic.PER_DAY)], roster(), store, lambda built: None)
    source = past(N)
    source.outcomes["label"] = 0.0
    with pytest.raises(RunFailed, match="one-class"):
        fit(request(N), [source], roster(), store, lambda built: None)


def test_a_test_slice_of_too_few_rows_fails_the_run(store) -> None:
    content = BUNDLE.model_dump(mode="json", by_alias=True)
    content["models"][MODEL]["training"]["split"]["test"] = "newest 1%"
    short = Roster("flights", Bundle.model_validate(content).to_json())
    with pytest.raises(RunFailed, match=r"too-few-rows: \d+ of \d\d test rows"):
        fit(request(N), [past(N)], short, store, lambda built: None)


def test_a_test_slice_with_too_few_of_one_class_fails_the_run(store) -> None:
    source = past(N)
    source.outcomes["label"][-11 * synthetic.PER_DAY :] = 0.0
    source.outcomes["label"][-5 * synthetic.PER_DAY :][:9] = 1.0
    with pytest.raises(RunFailed, match=r"too-few-rows: 9 of \d+ test rows"):
        fit(request(N), [source], roster(), store, lambda built: None)


def test_a_log_without_the_models_spec_fails_the_run(store) -> None:
    with pytest.raises(RunFailed, match="no-spec"):
        fit(request(N), [past(N)], Roster("flights"), store, lambda built: None)


def test_a_model_without_numbers_or_without_some_values_is_fitted_all_the_same(store) -> None:
    source = past(N)
    source.vectors[0]["weather_now__rain__3h"] = np.nan
    source.vectors[0]["event__carrier"] = 0
    assert fit(request(N), [source], roster(), store, lambda built: None).metrics["log_loss"] > 0
