"""The files of a model artifact. No clock and no machine in any of them: the same request gives the same digest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from tidemill.errors import Rejected
from tidemill.store import Store

MODEL: Final = "model.ubj"
"""xgboost's trees, as universal binary JSON."""
ENCODING: Final = "encoding.json"
"""models.encode.Encoding."""
REFERENCE: Final = "reference.json"
"""models.reference.Reference."""
REPORT: Final = "report.json"
"""The evaluation."""
MLMODEL: Final = "MLmodel"
"""The artifact's description in MLflow's words."""
CARD: Final = "model-card.md"
"""For people."""
LINEAGE: Final = "lineage.json"
"""Run, cause, dataset, log range, code and spec digests, seed, parameters."""


def part(files: Mapping[str, bytes], name: str) -> bytes:
    """One file's bytes; Rejected `bad-artifact` where it is not there."""
    try:
        return files[name]
    except KeyError:
        raise Rejected("bad-artifact", f"the artifact has no {name}") from None


def requester(files: Mapping[str, bytes]) -> str:
    """Who requested the run, by the artifact's lineage; empty where it has none. Rejected `bad-artifact` where that is none."""
    try:
        return str(json.loads(files[LINEAGE])["requester"]) if LINEAGE in files else ""
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Rejected("bad-artifact", f"{LINEAGE} does not name who requested the run: {error}") from error


def requested_by(store: Store, artifact: str) -> str:
    """`requester` of an artifact in the store, of which only the lineage is read; raises as `Store.get_tree` too."""
    lineage = store.manifest(artifact).get(LINEAGE)
    return requester({LINEAGE: store.get(lineage)} if lineage else {})
