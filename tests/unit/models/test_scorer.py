"""An artifact that answers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest

from tests.unit.models.artifacts import tree
from tidemill.errors import Rejected
from tidemill.models import artifact
from tidemill.models.encode import Encoding
from tidemill.models.scorer import Scorer
from tidemill.models.trees import Booster, DMatrix


def test_scores_are_the_trees_own(rows: npt.NDArray[np.void], files: dict[str, bytes]) -> None:
    encoding = Encoding.from_json(files[artifact.ENCODING])
    booster = Booster(model_file=bytearray(files[artifact.MODEL]))
    data = DMatrix(
        encoding.matrix(rows),
        feature_names=encoding.names,
        feature_types=encoding.feature_types,
        enable_categorical=True,
        nthread=1,
    )
    scores, missing = Scorer.load(files).score(rows)
    np.testing.assert_array_equal(scores, booster.predict(data).astype(np.float64))
    np.testing.assert_array_equal(missing[:, 0], np.isnan(rows["event__dep_delay"]))
    np.testing.assert_array_equal(missing[:, 1], rows["event__carrier"] == 0)
    assert 0 < scores.min() < 0.3 < 0.7 < scores.max() < 1


@pytest.mark.parametrize("size", [1, 2, 7, 100, 1009])
def test_the_size_of_a_batch_changes_no_bit(rows: npt.NDArray[np.void], files: dict[str, bytes], size: int) -> None:
    scorer = Scorer.load(files)
    rows = rows[:1500]
    parts = [scorer.score(rows[at : at + size])[0] for at in range(0, len(rows), size)]
    assert np.concatenate(parts).tobytes() == scorer.score(rows)[0].tobytes()


def test_the_same_rows_give_the_same_artifact(rows: npt.NDArray[np.void], files: dict[str, bytes]) -> None:
    assert tree(rows) == files


@pytest.mark.parametrize("name", [artifact.MODEL, artifact.ENCODING])
@pytest.mark.parametrize("data", [None, b"", b"no trees", b"{L\x00\x00"])
def test_a_broken_artifact_is_rejected(files: dict[str, bytes], name: str, data: bytes | None) -> None:
    broken = {part: old for part, old in files.items() if part != name} | ({} if data is None else {name: data})
    with pytest.raises(Rejected, match="bad-artifact"):
        Scorer.load(broken)


def test_trees_of_another_width_are_rejected(rows: npt.NDArray[np.void], files: dict[str, bytes]) -> None:
    narrow = tree(rows, ["event__dep_delay", "event__carrier"])
    with pytest.raises(Rejected, match="the trees read 4 features"):
        Scorer.load(files | {artifact.ENCODING: narrow[artifact.ENCODING]})


def test_scoring_imports_neither_pandas_nor_scikit_learn() -> None:
    said = "import sys, tidemill.models.scorer; print([m for m in ('pandas', 'sklearn', 'joblib') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_whoever_wants_scikit_learn_still_finds_it() -> None:
    said = "import tidemill.models.trees, sklearn, pandas; print(sklearn.__name__)"
    assert subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True).stdout.strip() == "sklearn"
