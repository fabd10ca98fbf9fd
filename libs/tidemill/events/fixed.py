"""Records of fixed-width fields: plain Avro for any client, a numpy structured dtype for us."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

FRAME = "frame"
"""The first field of every dtype here: Confluent's magic byte and the 4-byte schema id."""

_PRIMITIVES = {"double": "<f8", "float": "<f4", "boolean": "?"}


def dtype_of(schema: dict[str, Any]) -> np.dtype[np.void]:
    """The packed dtype of a record's framed bytes; raises ValueError on a field whose width varies.

    fixed(8) is "<u8" (our hashes), other fixed(n) "Vn". An enum of at most 64 symbols is one
    byte, twice its index (Avro's zigzag varint).
    """
    named: dict[str, str] = {}
    return np.dtype([(FRAME, "V5"), *((field["name"], _width(field["type"], named)) for field in schema["fields"])])


def taken(rows: npt.NDArray[np.void], index: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> npt.NDArray[np.void]:
    """`rows[index]`, as whole rows: numpy would copy each field by itself, which takes several times as long."""
    return rows.view(f"V{rows.dtype.itemsize}")[index].view(rows.dtype)


def joined(parts: Sequence[npt.NDArray[np.void]]) -> npt.NDArray[np.void]:
    """`np.concatenate(parts)`, as whole rows; at least one part, all of one dtype."""
    dtype = parts[0].dtype
    return np.concatenate([part.view(f"V{dtype.itemsize}") for part in parts]).view(dtype)


def _width(kind: Any, named: dict[str, str]) -> str:
    if isinstance(kind, str) and (width := _PRIMITIVES.get(kind) or named.get(kind)):
        return width
    if isinstance(kind, dict) and kind["type"] == "fixed":
        return named.setdefault(kind["name"], "<u8" if kind["size"] == 8 else f"V{kind['size']}")
    if isinstance(kind, dict) and kind["type"] == "enum" and len(kind["symbols"]) <= 64:
        return named.setdefault(kind["name"], "u1")
    if isinstance(kind, dict) and isinstance(kind["type"], str) and kind["type"] in _PRIMITIVES:
        return _PRIMITIVES[kind["type"]]
    raise ValueError(f"not of fixed width: {kind!r}")
