"""Which triggers are rows, in which order, and why the others are not."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.training.errors import RunFailed
from services.training.fit.dataset import build
from services.training.fit.split import split
from tests.unit.training.synthetic import BEGIN, BUNDLE, DAY, MODEL, PER_DAY, past, request
from tidemill.code import mark
from tidemill.spec import Bundle
from tidemill.spec.checks import feature_names
from tidemill.spec.training import Newest

N = 20 * PER_DAY
YOUNG = 3 * PER_DAY  # maturity is the label's 3 days


def with_training(**training: object) -> Bundle:
    content = BUNDLE.model_dump(mode="json", by_alias=True)
    content["models"][MODEL]["training"].update(training)
    return Bundle.model_validate(content)


def test_rows_are_mature_and_labelled_and_all_others_are_counted() -> None:
    dataset = build([past(N)], BUNDLE, request(N))
    mature = N - YOUNG + 1  # one is exactly 3 days old
    unlabelled = sum(number % 50 == 7 for number in range(mature))
    assert len(dataset) == mature - unlabelled
    assert dataset.left_out == {"too-young": YOUNG - 1, "expired": unlabelled}
    assert dataset.times[-1] <= request(N).at_time - 3 * DAY
    assert list(dataset.columns) == feature_names(BUNDLE, BUNDLE.models[MODEL])


def test_each_row_has_its_own_label() -> None:
    source = past(N)
    dataset = build([source], BUNDLE, request(N))
    labels = dict(zip(source.outcomes["trigger_position"].astype(int).tolist(), source.outcomes["label"].tolist(), strict=True))
    assert [labels[position] for position in dataset.positions.tolist()] == dataset.labels.tolist()
    assert dataset.positives == int(dataset.labels.sum())


def test_a_mature_trigger_whose_label_was_not_known_is_pending() -> None:
    source = past(N)
    dataset = build([replace(source, outcomes=source.outcomes[10:])], BUNDLE, request(N))
    assert dataset.left_out["pending"] == 10


def test_labels_of_another_model_are_nobodys() -> None:
    source = past(N)
    source.outcomes["model"] += 1
    with pytest.raises(RunFailed, match="no-rows"):
        build([source], BUNDLE, request(N))


def test_vectors_of_another_spec_are_left_out() -> None:
    source = past(N)
    source.vectors[0]["spec"][: 2 * PER_DAY] += np.uint64(1)
    dataset = build([source], BUNDLE, request(N))
    assert dataset.left_out["other-spec"] == 2 * PER_DAY
    assert dataset.times[0] == BEGIN + 2 * DAY


def test_what_other_code_of_the_feature_store_made_is_left_out() -> None:
    source = past(N)
    source.vectors[0]["code"][:PER_DAY] = mark("sha256:" + "01" * 32)
    dataset = build([source], BUNDLE, request(N))
    assert dataset.left_out["other-code"] == PER_DAY
    assert dataset.times[0] == BEGIN + DAY
    assert dataset.fold_code == "c0de" * 4


def test_maturity_and_the_range_of_rows_are_the_model_files() -> None:
    dataset = build([past(N)], with_training(rows={"last": "10d"}, maturity="1d"), request(N))
    assert dataset.left_out["out-of-range"] == 10 * PER_DAY
    assert dataset.left_out["too-young"] == PER_DAY - 1
    assert dataset.times[0] == request(N).at_time - 10 * DAY


def test_rows_stand_in_the_order_of_time_whatever_the_log_did() -> None:
    source = past(N)
    late = source.vectors[0]
    late["event_time"][100] -= DAY // 2
    dataset = build([source], BUNDLE, request(N))
    assert np.all(np.diff(dataset.times) >= 0)
    assert dataset.columns["event__dep_delay"][0] == late["event__dep_delay"][100] or np.isnan(late["event__dep_delay"][100])


def test_partitions_are_one_dataset() -> None:
    one, other = past(N, 1), past(N, 2)
    both = build([one, replace(other, partition=1)], BUNDLE, request(N))
    assert len(both) == 2 * len(build([one], BUNDLE, request(N)))


def test_the_parquet_file_holds_the_rows() -> None:
    dataset = build([past(N)], BUNDLE, request(N))
    data = dataset.to_parquet()
    assert data == dataset.to_parquet()
    frame = pl.read_parquet(io.BytesIO(data))
    assert frame["position"].to_list() == dataset.positions.tolist()
    assert frame["label"].sum() == dataset.positives
    np.testing.assert_array_equal(frame["event__dep_delay"].to_numpy(), dataset.columns["event__dep_delay"])


def test_what_only_the_champion_reads_stands_beside_the_features_and_not_in_the_file() -> None:
    content = BUNDLE.model_dump(mode="json", by_alias=True)
    content["models"][MODEL]["features"]["event"].remove("dep_delay")
    names, less = feature_names(BUNDLE, BUNDLE.models[MODEL]), Bundle.model_validate(content)
    dataset = build([past(N)], less, request(N), [*names, "event__gone"])
    assert list(dataset.beside) == ["event__dep_delay"]
    rows = np.arange(5)
    assert set(dataset.take(rows)) == set(names) - {"event__dep_delay"}
    before = build([past(N)], BUNDLE, request(N)).take(rows)
    np.testing.assert_array_equal(dataset.take_all(rows)["event__dep_delay"], before["event__dep_delay"])
    assert dataset.to_parquet() == build([past(N)], less, request(N)).to_parquet()


slices = st.builds("newest {}%".format, st.integers(1, 99)) | st.builds("newest {}us".format, st.integers(1, 300))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=200), slices, st.integers(0, 10))
def test_no_training_row_is_younger_than_the_gap_before_the_oldest_test_row(steps: list[int], text: str, gap: int) -> None:
    times, newest = np.cumsum(np.array(steps, np.int64)), Newest.model_validate(text)
    parts = split(times, newest, gap)
    if newest.share is not None:
        assert len(parts.test) >= max(1, round(len(times) * newest.share))
    else:
        assert len(parts.test) == np.count_nonzero(times[-1] - times <= newest.span)
    assert parts.test.tolist() == list(range(len(times) - len(parts.test), len(times)))
    if len(parts.train):
        assert times[parts.train[-1]] < times[parts.test[0]] - gap
