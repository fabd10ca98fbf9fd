"""Where the contracts' files lie."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve()
Schema = dict[str, Any]

_PLACES = (_HERE.parents[3] / "schemas", _HERE.parents[1] / "schemas")  # a checkout; an installed package


@cache
def schemas_dir() -> Path:
    """The folder with topics.toml and `<domain>/<fact>.v<N>.avsc`."""
    for place in _PLACES:
        if (place / "topics.toml").is_file():
            return place
    raise FileNotFoundError(f"no schemas folder: looked in {', '.join(map(str, _PLACES))}")


@cache
def load_schema(path: str) -> Schema:
    """The Avro schema of `<domain>/<fact>.v<N>`, as parsed JSON (shared: do not change it)."""
    schema: Schema = json.loads((schemas_dir() / f"{path}.avsc").read_text())
    return schema
