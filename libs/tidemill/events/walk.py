"""A compiled walk over Avro datums: does each consume exactly its bytes, and are they possible values?

A schema becomes a small program (one row per step: operation and two arguments). The walk runs it once per datum and
never reads outside of it, so a cut or forged datum is found without any harm to its neighbours. It is stricter than the
Avro libraries about what they read without complaint and then disagree on: a boolean is 0 or 1, an int has 32 bits, a
number at most 10 bytes, a union's branch exists, a block's size is not negative, a text is UTF-8.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tidemill.compiled import kernel, part
from tidemill.events.plain import DEEPEST

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

_NUMBER, _INT, _SKIP, _TRUTH, _BYTES, _TEXT, _ENUM, _UNION, _JUMP, _BLOCK, _NEXT = range(11)
_PRIMITIVES: Final = {
    "long": (_NUMBER, 0),
    "int": (_INT, 0),
    "float": (_SKIP, 4),
    "double": (_SKIP, 8),
    "boolean": (_TRUTH, 0),
    "bytes": (_BYTES, 0),
    "string": (_TEXT, 0),
    "null": (_SKIP, 0),
}
Program = npt.NDArray[np.int64]


def program(schema: Any) -> Program:
    """The steps of a schema whose named types are all spelled out (`plain`)."""
    steps: list[tuple[int, int, int]] = []
    _compile(schema, steps)
    return np.array(steps or [(_SKIP, 0, 0)], dtype=np.int64)


def _compile(kind: Any, steps: list[tuple[int, int, int]]) -> None:
    name = kind["type"] if isinstance(kind, dict) else kind
    if isinstance(name, list):
        _compile_union(name, steps)
    elif name == "record":
        for field in kind["fields"]:
            _compile(field["type"], steps)
    elif name in ("array", "map"):
        _compile_block(kind, steps)
    elif name == "fixed":
        steps.append((_SKIP, kind["size"], 0))
    elif name == "enum":
        steps.append((_ENUM, len(kind["symbols"]), 0))
    else:
        steps.append((*_PRIMITIVES[name], 0))


def _compile_union(arms: list[Any], steps: list[tuple[int, int, int]]) -> None:
    """UNION, one JUMP per arm to the arm's steps, the arms, each with a JUMP to the end."""
    table = len(steps) + 1
    steps.append((_UNION, len(arms), 0))
    steps.extend([(_JUMP, 0, 0)] * len(arms))
    ends = []
    for index, arm in enumerate(arms):
        steps[table + index] = (_JUMP, len(steps), 0)
        _compile(arm, steps)
        ends.append(len(steps))
        steps.append((_JUMP, 0, 0))
    for end in ends:
        steps[end] = (_JUMP, len(steps), 0)


def _compile_block(kind: Any, steps: list[tuple[int, int, int]]) -> None:
    """BLOCK, the item's steps, NEXT."""
    start = len(steps)
    steps.append((_BLOCK, 0, 0))
    if kind["type"] == "map":
        steps.append((_TEXT, 0, 0))
    _compile(kind["items"] if kind["type"] == "array" else kind["values"], steps)
    steps.append((_NEXT, start, 0))
    steps[start] = (_BLOCK, len(steps), 0)


@part
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


@part
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


@part
def _sized(data, at, end, count):  # type: ignore[no-untyped-def]
    """(number of items, next place, verdict) of a block whose count is negative: behind it stands the block's size."""
    size, at, verdict = _number(data, at, end)
    if verdict == _OK and (size < 0 or -count < 0):  # the least of all numbers has no opposite
        verdict = _LENGTH
    return -count, at, verdict


@part
def _entered(left, depth, step, size, items):  # type: ignore[no-untyped-def]
    """(step, depth) at the begin of a block: at its first item, or behind it all where it has none."""
    if items == 0:
        return size, depth
    left[depth + 1] = items
    return step, depth + 1


@part
def _again(left, depth, size):  # type: ignore[no-untyped-def]
    """(step, depth) behind an item: at the next one of its block, or at the next block, which may be the empty last one."""
    left[depth] -= 1
    return (size + 1, depth) if left[depth] > 0 else (size, depth - 1)


@part
def _datum(data, at, end, steps, left):  # type: ignore[no-untyped-def]
    """The verdict on data[at:end]; `left` is room for the counts of open blocks."""
    step, depth = 0, 0
    while step < steps.shape[0]:
        op, size = steps[step, 0], steps[step, 1]
        step += 1
        if op == _SKIP:
            at += size
        elif op == _TRUTH:
            if at < end and data[at] > 1:
                return _BOOL
            at += 1
        elif op == _JUMP:
            step = size
        elif op == _NEXT:
            step, depth = _again(left, depth, size)
        else:
            number, at, verdict = _number(data, at, end)
            if verdict != _OK:
                return verdict
            if op == _INT:
                if number < -2147483648 or number > 2147483647:
                    return _INT_RANGE
            elif op in (_BYTES, _TEXT):  # here, since with a kernel for it the flights' texts take a fifth longer
                if number < 0 or number > end - at:
                    return _LENGTH if number < 0 else _CUT
                if op == _TEXT and not _utf8(data, at, at + number):
                    return _UTF8
                at += number
            elif op in (_ENUM, _UNION):
                if number < 0 or number >= size:
                    return _SYMBOL if op == _ENUM else _BRANCH
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


@kernel
def walk(data: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64], steps: Program) -> npt.NDArray[np.uint8]:
    """The verdict (index in VERDICTS) on each of the consecutive datums that end at these places."""
    out = np.empty(ends.shape[0], np.uint8)
    left = np.zeros(DEEPEST + 1, np.int64)  # no more blocks can be open at once
    at = 0
    for i in range(ends.shape[0]):
        out[i] = _datum(data, at, ends[i], steps, left)
        at = ends[i]
    return out
