"""An artifact that answers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tidemill.errors import Rejected
from tidemill.models import artifact
from tidemill.models.encode import Columns, Encoding
from tidemill.models.trees import Booster


class Scorer:
    """Vectors in, probabilities out: one thread, and the same bits for any batch size."""

    def __init__(self, encoding: Encoding, booster: Booster, requester: str = "") -> None:
        """`requester` asked for the run that made it."""
        self.encoding, self.requester = encoding, requester
        self._booster = booster

    @classmethod
    def load(cls, files: Mapping[str, bytes]) -> Scorer:
        """The scorer of an artifact's files (digest and decision verified before); Rejected `bad-artifact` where it is none."""
        encoding = Encoding.from_json(artifact.part(files, artifact.ENCODING))
        booster = _booster(artifact.part(files, artifact.MODEL))
        if booster.num_features() != len(encoding.features):
            said = f"the trees read {booster.num_features()} features, encoding.json names {len(encoding.features)}"
            raise Rejected("bad-artifact", said)
        return cls(encoding, booster, artifact.requester(files))

    def score(self, rows: Columns) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """(scores float64[n] in 0..1, missing bool[n, features]) of n > 0 vectors."""
        matrix = self.encoding.matrix(rows)
        scores = self._booster.inplace_predict(matrix, validate_features=False)
        return scores.astype(np.float64), np.isnan(matrix)


def _booster(data: bytes) -> Booster:
    if not data:  # on no bytes at all xgboost ends the process
        raise Rejected("bad-artifact", "model.ubj is empty")
    booster = Booster({"nthread": 1})
    try:
        booster.load_model(bytearray(data))
    except ValueError as error:  # xgboost's own error is one
        raise Rejected("bad-artifact", f"model.ubj: {str(error).splitlines()[0]}") from error
    booster.set_param({"nthread": 1})
    return booster
