"""The work that each peer does per record, in plain Python: decode, a one-hour mean per origin in tiles of five minutes, the model.

Run inside of the peers' own environment: it imports nothing of Tidemill.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import xgboost

TILE, TILES = 300_000_000, 12
"""Five minutes, in microseconds; twelve of them are the window."""

_JOB = json.loads(Path(os.environ["PIPELINE_JOB"]).read_text())
_SCHEMAS = {int(number): fastavro.parse_schema(schema, named_schemas={}) for number, schema in _JOB["schemas"].items()}
_DEPARTURE = int(_JOB["departure"])
_BOOSTER = xgboost.Booster({"nthread": 1})
_BOOSTER.load_model(_JOB["model"])
_BOOSTER.set_param({"nthread": 1})

BOOTSTRAP: str = _JOB["bootstrap"]
SOURCE: str = _JOB["source"]
SINK: str = os.environ["PIPELINE_SINK"]
COUNT: int = _JOB["departures"]


def decode(value: bytes) -> dict[str, Any] | None:
    """A departure's row; other events are decoded too, as the others do, and are None."""
    number = int.from_bytes(value[1:5], "big")
    schema = _SCHEMAS.get(number)
    if schema is None:
        return None
    row: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None)
    return row if number == _DEPARTURE else None


def mean(tiles: dict[str, list[float]], at: int, delay: float) -> float:
    """The mean delay over the last hour before this departure, which is then added; `tiles`: number -> [sum, count]."""
    tile = at // TILE
    total, count = 0.0, 0.0
    for one in range(tile - TILES + 1, tile + 1):
        found = tiles.get(str(one))
        if found is not None:
            total += found[0]
            count += found[1]
    entry = tiles.setdefault(str(tile), [0.0, 0.0])
    entry[0] += delay
    entry[1] += 1.0
    for old in [key for key in tiles if int(key) <= tile - 2 * TILES]:
        del tiles[old]
    return total / count if count else float("nan")


def micros(moment: Any) -> int:
    """A decoded timestamp in microseconds."""
    return int(moment.timestamp() * 1_000_000 + 0.5)


def score(row: dict[str, Any], mean_delay: float) -> bytes:
    """The prediction of one departure, as the peers write it."""
    matrix = np.array([[row["dep_delay"], row["distance"], row["sched_hour"], mean_delay]], np.float32)
    found = float(_BOOSTER.inplace_predict(matrix)[0])
    return json.dumps({"id": row["flight_id"], "score": found}).encode()
