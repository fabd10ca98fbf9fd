"""Batches of Avro datums to columns (R19).

Each datum is first walked by a compiled kernel (`walk`), which keeps the fields of plain types: only those that consume exactly
their bytes go on. A frame of all columns is made where somebody asks for it: the good ones are framed as one block of an object
container, which polars decodes at once. Schemas with types that polars cannot read (maps, records in records, unions of several
types) are decoded one by one by fastavro. Both give the same frame.
"""

from __future__ import annotations

import io
from typing import Any, Final

import fastavro
import numpy as np
import polars as pl

from tidemill.events.blobs import Blobs
from tidemill.events.decoded import TICKS, Decoded, fields_of
from tidemill.events.plain import BadSchema, check_schema, name_of, plain, value_of
from tidemill.events.walk import VERDICTS, Cells, kept, program, walk

__all__ = ["MAX_BYTES", "PRIMITIVES", "BadSchema", "Decoded", "Decoder", "check_schema"]

MAX_BYTES: Final = 1_048_576
"""The largest datum that is looked at."""

_FRAME = 5
_SYNC = b"tidemill-columns"
PRIMITIVES: Final[dict[str, pl.DataType]] = {
    "int": pl.Int32(),
    "long": pl.Int64(),
    "float": pl.Float32(),
    "double": pl.Float64(),
    "boolean": pl.Boolean(),
    "string": pl.String(),
    "bytes": pl.Binary(),
    "fixed": pl.Binary(),
    "enum": pl.String(),
}
"""Avro's types as the columns of a frame."""


class Decoder:
    """The decoder of one record schema. A field with a union of several types has no column; a map is a list of
    {key, value}.
    """

    def __init__(self, schema: dict[str, Any], max_bytes: int = MAX_BYTES, one_by_one: bool = False) -> None:
        """`one_by_one`: by fastavro whatever the schema. Raises BadSchema: recursive, arrays whose items have no bytes."""
        self._max_bytes = max_bytes
        check_schema(schema)
        schema = plain(schema)
        self._steps, self._kept = program(schema), len(kept(schema))
        self._parsed = fastavro.parse_schema(schema, named_schemas={})
        kinds = {field["name"]: field["type"] for field in schema["fields"]}
        self._columns = {name: dtype for name, kind in kinds.items() if (dtype := _dtype(kind)) is not None}
        self._maps = {name: kinds[name] for name in self._columns if _holds_map(kinds[name])}
        ticks = {field["name"]: field["ticks"] for field in schema["fields"] if field.get("ticks") in TICKS}
        self._ticks = [TICKS[tick](pl.col(name)) for name, tick in ticks.items()]
        self.fields: Final = {} if one_by_one else fields_of(schema)
        in_blocks = not one_by_one and all(_block_can(kind) for kind in kinds.values())
        self._header = _header(kinds) if in_blocks else b""
        self._enums = [_symbols(name, kind) for name, kind in kinds.items() if name_of(value_of(kind)) == "enum"]

    def decode(self, values: Blobs) -> Decoded:
        """The columns of framed values (the 5-byte prefix is not looked at)."""
        datums, cells = values.beyond(_FRAME), Cells.blank(self._kept, len(values))
        verdicts = walk(datums, self._steps, cells)
        large = datums.lengths > self._max_bytes
        good = np.flatnonzero((verdicts == 0) & ~large)
        bad = [
            (int(i), f"larger than {self._max_bytes} bytes" if large[i] else VERDICTS[verdicts[i]])
            for i in np.flatnonzero((verdicts != 0) | large)
        ]
        if bad:
            datums, cells = datums.chosen(good), cells.chosen(good)
        return Decoded(bad, good, self.fields, datums.data, cells, lambda: self._frame(datums))

    def _frame(self, datums: Blobs) -> pl.DataFrame:
        frame = self._block(datums) if self._header and len(datums) else self._one_by_one(datums)
        return frame.with_columns(self._ticks) if self._ticks else frame

    def _block(self, datums: Blobs) -> pl.DataFrame:
        body = datums.packed().data
        block = b"".join((self._header, _varint(len(datums)), _varint(len(body)), body.data, _SYNC))
        frame = pl.read_avro(io.BytesIO(block))
        return frame.with_columns(self._enums) if self._enums else frame

    def _one_by_one(self, datums: Blobs) -> pl.DataFrame:
        rows: list[Any] = [fastavro.schemaless_reader(io.BytesIO(datum), self._parsed, None) for datum in datums]
        columns = {name: [row[name] for row in rows] for name in self._columns}
        for name, kind in self._maps.items():
            columns[name] = [_listed(kind, value) for value in columns[name]]
        return pl.DataFrame(columns, schema=self._columns)


def _dtype(kind: Any) -> pl.DataType | None:
    """The column's type, or None where a union of several types is in it."""
    kind = value_of(kind)
    name = name_of(kind)
    if name in PRIMITIVES:
        return PRIMITIVES[name]
    if name == "record":
        inner = {field["name"]: _dtype(field["type"]) for field in kind["fields"]}
        return None if None in inner.values() or not inner else pl.Struct({n: t for n, t in inner.items() if t})
    if name in ("array", "map"):
        item = _dtype(kind["items"] if name == "array" else kind["values"])
        if item is None:
            return None
        return pl.List(item if name == "array" else pl.Struct({"key": pl.String(), "value": item}))
    return None


def _holds_map(kind: Any) -> bool:
    kind = value_of(kind)
    name = name_of(kind)
    if name == "record":
        return any(_holds_map(field["type"]) for field in kind["fields"])
    return name == "map" or (name == "array" and _holds_map(kind["items"]))


def _listed(kind: Any, value: Any) -> Any:
    """A value with its maps as lists of {key, value}, in the datum's order."""
    kind = value_of(kind)
    name = name_of(kind)
    if value is None:
        return None
    if name == "record":
        return {field["name"]: _listed(field["type"], value[field["name"]]) for field in kind["fields"]}
    if name == "array":
        return [_listed(kind["items"], item) for item in value]
    if name == "map":
        return [{"key": key, "value": _listed(kind["values"], item)} for key, item in value.items()]
    return value


def _block_can(kind: Any) -> bool:
    """Whether polars reads such a field of a block without failing on any good datum."""
    if isinstance(kind, list) and len(kind) != 2:
        return False
    inner = value_of(kind)
    if name_of(inner) == "array":
        return not isinstance(kind, list) and inner["items"] in ("long", "double", "string", "boolean")
    return name_of(inner) in PRIMITIVES


def _block_kind(kind: Any) -> Any:
    """The type under which the block shows a field: an enum as the number it is."""
    if isinstance(kind, list):
        return [_block_kind(arm) for arm in kind]
    return "int" if isinstance(kind, dict) and kind["type"] == "enum" else kind


def _symbols(name: str, kind: Any) -> pl.Expr:
    """An enum's numbers as the symbols they stand for."""
    symbols = value_of(kind)["symbols"]
    return pl.col(name).replace_strict(list(range(len(symbols))), symbols, return_dtype=pl.String)


def _header(kinds: dict[str, Any]) -> bytes:
    """The container's head, up to its first block."""
    schema = {
        "type": "record",
        "name": "Row",
        "fields": [{"name": name, "type": _block_kind(kind)} for name, kind in kinds.items()],
    }
    out = io.BytesIO()
    fastavro.writer(out, schema, [], sync_marker=_SYNC)
    return out.getvalue()


def _varint(number: int) -> bytes:
    number, out = number << 1, bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes((*out, number))
