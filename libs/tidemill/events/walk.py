"""A compiled walk over Avro datums: does each consume exactly its bytes, are they possible values, and which are they?

A schema becomes a small program (one row per step: operation, size, column). The walk runs it once per datum and
never reads outside of it, so a cut or forged datum is found without any harm to its neighbours. It is stricter than the
Avro libraries about what they read without complaint and then disagree on: a boolean is 0 or 1, an int has 32 bits, a
number at most 10 bytes, a union's branch exists, a block's size is not negative, a text is UTF-8.

The record's own fields of plain types are kept as columns (`Cells`) on the way.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.compiled import bare_kernel, bare_part
from tidemill.events.blobs import Blobs
from tidemill.events.plain import DEEPEST, name_of, value_of

VERDICTS: Final = (
    "",
    "cut short",
    "bytes left over",
    "a number of more than 64 bits",
    "an int of more than 32 bits",
    "a boolean that is neither 0 nor 1",
    "a negative length",
    "a text that is no UTF-8",
    "a union branch that does not exist",
    "an enum symbol that does not exist",
)
_OK, _CUT, _OVER, _LONG_RANGE, _INT_RANGE, _BOOL, _LENGTH, _UTF8, _BRANCH, _SYMBOL = range(len(VERDICTS))

_NUMBER, _INT, _SKIP, _FLOAT, _DOUBLE, _TRUTH, _BYTES, _TEXT, _ENUM, _UNION, _JUMP, _BLOCK, _NEXT = range(13)
_PRIMITIVES: Final = {
    "long": (_NUMBER, 0),
    "int": (_INT, 0),
    "float": (_FLOAT, 4),
    "double": (_DOUBLE, 8),
    "boolean": (_TRUTH, 0),
    "bytes": (_BYTES, 0),
    "string": (_TEXT, 0),
    "null": (_SKIP, 0),
}
KEPT: Final = ("long", "int", "float", "double", "boolean", "string", "enum")
"""The types of fields that are kept; each may also be null."""
Program = npt.NDArray[np.int64]


class Cells(NamedTuple):
    """What the walk keeps: a row per kept field, and a last one for all else, which is nobody's."""

    values: npt.NDArray[np.int64]
    """int64[fields + 1, datums]: a number, a float's or double's bits, a boolean, an enum's index, or where in the data a text begins."""
    widths: npt.NDArray[np.int64]
    """int64[fields + 1, datums]: the bytes of a text, 0 of what else is there, -1 of null."""

    @classmethod
    def blank(cls, fields: int, datums: int) -> Cells:
        """Everything null."""
        return cls(np.zeros((fields + 1, datums), np.int64), np.full((fields + 1, datums), -1, np.int64))

    def chosen(self, index: npt.NDArray[np.int64]) -> Cells:
        """Those of some datums."""
        return Cells(self.values.take(index, axis=1), self.widths.take(index, axis=1))


def kept(schema: Any) -> dict[str, str]:
    """The fields that are kept of a record whose named types are all spelled out (`plain`), and their types, in order."""
    found = {field["name"]: name_of(value_of(field["type"])) for field in schema["fields"]}
    return {name: kind for name, kind in found.items() if kind in KEPT}


def program(schema: Any) -> Program:
    """The steps of a record whose named types are all spelled out."""
    steps: list[tuple[int, int, int]] = []
    columns = {name: column for column, name in enumerate(kept(schema))}
    for field in schema["fields"]:
        _compile(field["type"], steps, columns.get(field["name"], len(columns)), len(columns))
    return np.array(steps or [(_SKIP, 0, len(columns))], dtype=np.int64)


def _compile(kind: Any, steps: list[tuple[int, int, int]], column: int, nobody: int) -> None:
    """The steps of a type whose value is kept in `column`; what lies in it is kept in `nobody`."""
    name = name_of(kind)
    if name == "union":
        _compile_union(kind, steps, column, nobody)
    elif name == "record":
        for field in kind["fields"]:
            _compile(field["type"], steps, nobody, nobody)
    elif name in ("array", "map"):
        _compile_block(kind, steps, nobody)
    elif name == "fixed":
        steps.append((_SKIP, kind["size"], nobody))
    elif name == "enum":
        steps.append((_ENUM, len(kind["symbols"]), column))
    else:
        steps.append((*_PRIMITIVES[name], column))


def _compile_union(arms: list[Any], steps: list[tuple[int, int, int]], column: int, nobody: int) -> None:
    """UNION, one JUMP per arm to the arm's steps, the arms, each with a JUMP to the end."""
    table = len(steps) + 1
    steps.append((_UNION, len(arms), nobody))
    steps.extend([(_JUMP, 0, nobody)] * len(arms))
    ends = []
    for index, arm in enumerate(arms):
        steps[table + index] = (_JUMP, len(steps), nobody)
        _compile(arm, steps, column, nobody)
        ends.append(len(steps))
        steps.append((_JUMP, 0, nobody))
    for end in ends:
        steps[end] = (_JUMP, len(steps), nobody)


def _compile_block(kind: Any, steps: list[tuple[int, int, int]], nobody: int) -> None:
    """BLOCK, the item's steps, NEXT."""
    start = len(steps)
    steps.append((_BLOCK, 0, nobody))
    if kind["type"] == "map":
        steps.append((_TEXT, 0, nobody))
    _compile(kind["items"] if kind["type"] == "array" else kind["values"], steps, nobody, nobody)
    steps.append((_NEXT, start, nobody))
    steps[start] = (_BLOCK, len(steps), nobody)


@bare_part
def _number(data, at, end):  # type: ignore[no-untyped-def]
    """(value, next place, verdict) of a zigzag varint."""
    value, shift = np.uint64(0), np.uint64(0)
    while True:
        if at >= end:
            return np.int64(0), at, _CUT
        byte = np.uint64(data[at])
        at += 1
        if shift == np.uint64(63) and byte > np.uint64(1):
            return np.int64(0), at, _LONG_RANGE
        value |= (byte & np.uint64(127)) << shift
        if byte < np.uint64(128):
            break
        shift += np.uint64(7)
    return np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1)), at, _OK


@bare_part
def _utf8(data, at, end):  # type: ignore[no-untyped-def]
    """Whether the bytes are well-formed UTF-8 (Unicode 15, table 3-7)."""
    while at < end:
        lead = data[at]
        at += 1
        if lead < 0x80:
            continue
        low, high = 0x80, 0xBF
        if 0xC2 <= lead <= 0xDF:
            more = 1
        elif 0xE0 <= lead <= 0xEF:
            more = 2
            low = 0xA0 if lead == 0xE0 else 0x80
            high = 0x9F if lead == 0xED else 0xBF
        elif 0xF0 <= lead <= 0xF4:
            more = 3
            low = 0x90 if lead == 0xF0 else 0x80
            high = 0x8F if lead == 0xF4 else 0xBF
        else:
            return False
        if at + more > end:
            return False
        for _ in range(more):
            if not low <= data[at] <= high:
                return False
            low, high = 0x80, 0xBF
            at += 1
    return True


@bare_part
def _sized(data, at, end, count):  # type: ignore[no-untyped-def]
    """(number of items, next place, verdict) of a block whose count is negative: behind it stands the block's size."""
    size, at, verdict = _number(data, at, end)
    if verdict == _OK and (size < 0 or -count < 0):  # the least of all numbers has no opposite
        verdict = _LENGTH
    return -count, at, verdict


@bare_part
def _entered(left, depth, step, size, items):  # type: ignore[no-untyped-def]
    """(step, depth) at the begin of a block: at its first item, or behind it all where it has none."""
    if items == 0:
        return size, depth
    left[depth + 1] = items
    return step, depth + 1


@bare_part
def _again(left, depth, size):  # type: ignore[no-untyped-def]
    """(step, depth) behind an item: at the next one of its block, or at the next block, which may be the empty last one."""
    left[depth] -= 1
    return (size + 1, depth) if left[depth] > 0 else (size, depth - 1)


@bare_part
def _four(data, at):  # type: ignore[no-untyped-def]
    """Four bytes, little endian."""
    low = np.uint64(data[at]) | np.uint64(data[at + 1]) << np.uint64(8)
    return low | np.uint64(data[at + 2]) << np.uint64(16) | np.uint64(data[at + 3]) << np.uint64(24)


@bare_part
def _datum(data, at, end, steps, left, cells, i):  # type: ignore[no-untyped-def]
    """The verdict on data[at:end], whose cells are number `i`; `left` is room for the counts of open blocks."""
    step, depth = 0, 0
    while step < steps.shape[0]:
        op, size, column = steps[step, 0], steps[step, 1], steps[step, 2]
        step += 1
        if op == _SKIP:
            at += size
        elif op in (_DOUBLE, _FLOAT):
            if size > end - at:
                return _CUT
            cells.values[column, i] = np.int64(_four(data, at))
            if op == _DOUBLE:
                cells.values[column, i] = np.int64(_four(data, at) | _four(data, at + 4) << np.uint64(32))
            cells.widths[column, i] = 0
            at += size
        elif op == _TRUTH:
            if at < end and data[at] > 1:
                return _BOOL
            if at < end:
                cells.values[column, i], cells.widths[column, i] = data[at], 0
            at += 1
        elif op == _JUMP:
            step = size
        elif op == _NEXT:
            step, depth = _again(left, depth, size)
        else:
            number, at, verdict = _number(data, at, end)
            if verdict != _OK:
                return verdict
            if op in (_NUMBER, _INT):
                if op == _INT and (number < -2147483648 or number > 2147483647):
                    return _INT_RANGE
                cells.values[column, i], cells.widths[column, i] = number, 0
            elif op in (_BYTES, _TEXT):  # here, since with a kernel for it the flights' texts take a fifth longer
                if number < 0 or number > end - at:
                    return _LENGTH if number < 0 else _CUT
                if op == _TEXT and not _utf8(data, at, at + number):
                    return _UTF8
                cells.values[column, i], cells.widths[column, i] = at, number
                at += number
            elif op in (_ENUM, _UNION):
                if number < 0 or number >= size:
                    return _SYMBOL if op == _ENUM else _BRANCH
                if op == _ENUM:
                    cells.values[column, i], cells.widths[column, i] = number, 0
                step += number if op == _UNION else 0
            elif op == _BLOCK:
                if number < 0:
                    number, at, verdict = _sized(data, at, end, number)
                    if verdict != _OK:
                        return verdict
                step, depth = _entered(left, depth, step, size, number)
        if at > end:
            return _CUT
    return _OK if at == end else _OVER


def walk(datums: Blobs, steps: Program, cells: Cells) -> npt.NDArray[np.uint8]:
    """The verdict (index in VERDICTS) on each datum; its kept fields go to `cells`."""
    verdicts = np.empty(len(datums), np.uint8)
    left = np.zeros(DEEPEST + 1, np.int64)  # no more blocks can be open at once
    _walk(datums.data, datums.begins, datums.lengths, steps, left, cells, verdicts)
    return verdicts


@bare_kernel
def _walk(data, begins, lengths, steps, left, cells, out):  # type: ignore[no-untyped-def]
    for i in range(begins.shape[0]):
        out[i] = _datum(data, begins[i], begins[i] + max(np.int64(0), lengths[i]), steps, left, cells, i)
