"""Predictions as bytes, without a Python call per event.

A prediction is Avro with parts of varying width (the model's name, its version, the names of missing features). For rows of one
version these are constant but the last: so a structured array holds the constant layout, and what is missing is encoded once per
distinct pattern and appended.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidemill.bus.fold import Headers
from tidemill.events.envelope import CAUSED_BY, POSITION, SEQ
from tidemill.events.predictions import Prediction

SCORED, NO_MODEL, FAILED = 0, 2, 8
"""The status enum's bytes: twice the symbol's index."""
_NULL, _PRESENT = b"\x00", b"\x02"
"""The branches of a union ["null", X]."""
_HEAD = [
    ("frame", "V5"),
    ("seq", "<f8"),
    ("position", "<f8"),
    ("stream_time", "<f8"),
    ("event_time", "<f8"),
    ("known_time", "<f8"),
    ("status", "u1"),
]
_KIND = Prediction.ce_type().encode()
_VERSION = ("ce_specversion", b"1.0")


@dataclass
class Answers:
    """The answers of one version (or of none) to triggers of a batch; `index` is each one's place in the batch."""

    model: str
    source: str
    """The trigger's source."""
    version: int | None
    threshold: float
    index: npt.NDArray[np.int64]
    heads: npt.NDArray[np.void]
    """Position, stream_time, event_time, known_time of each trigger, and its id_hash."""
    status: int
    scores: npt.NDArray[np.float64] | None = None
    missing: npt.NDArray[np.bool_] | None = None
    names: tuple[str, ...] = ()
    link: tuple[int, int, int] = (0, 0, 0)

    def encode(self, frame: bytes, seqs: npt.NDArray[np.int64]) -> list[bytes]:
        """The records' bytes, numbered."""
        if self.scores is None:
            return self._bare(frame, seqs)
        version = _PRESENT + varint(self.version or 0)
        rows = self._rows(
            frame,
            seqs,
            [
                ("version", f"V{len(version)}"),
                ("b1", "u1"),
                ("score", "<f8"),
                ("b2", "u1"),
                ("decision", "?"),
                ("b3", "u1"),
                ("threshold", "<f8"),
            ],
        )
        rows["version"] = np.void(version)
        rows["b1"], rows["b2"], rows["b3"] = 2, 2, 2
        rows["score"], rows["threshold"], rows["decision"] = self.scores, self.threshold, self.scores >= self.threshold
        tails, pattern = self._tails()
        data, width = rows.tobytes(), rows.dtype.itemsize
        return [data[at : at + width] + tails[which] for at, which in zip(range(0, len(data), width), pattern, strict=True)]

    def _bare(self, frame: bytes, seqs: npt.NDArray[np.int64]) -> list[bytes]:
        """Without version, score, decision, threshold; nothing is missing where nothing was asked for."""
        rows = self._rows(frame, seqs, [("nothing", "V5")])
        rows["nothing"] = np.void(_NULL * 5)
        data, width = rows.tobytes(), rows.dtype.itemsize
        return [data[at : at + width] for at in range(0, len(data), width)]

    def _rows(self, frame: bytes, seqs: npt.NDArray[np.int64], rest: list[tuple[str, str]]) -> npt.NDArray[np.void]:
        name = text(self.model)
        rows = np.zeros(len(self.index), np.dtype([*_HEAD, ("model", f"V{len(name)}"), *rest]))
        rows["frame"], rows["model"] = np.void(frame), np.void(name)
        rows["seq"], rows["status"] = seqs, self.status
        for field in ("position", "stream_time", "event_time", "known_time"):
            rows[field] = self.heads[field]
        return rows

    def _tails(self) -> tuple[list[bytes], list[int]]:
        """The encoded list of missing features of each distinct pattern, and each row's pattern."""
        assert self.missing is not None
        if not self.missing.any():
            return [_NULL], [0] * len(self.missing)
        packed = np.packbits(self.missing, axis=1)
        keys = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
        _, first, pattern = np.unique(keys, return_index=True, return_inverse=True)
        tails = [self._tail(np.flatnonzero(self.missing[at]).tolist()) for at in first.tolist()]
        return tails, pattern.ravel().tolist()

    def _tail(self, places: list[int]) -> bytes:
        """An Avro array of the features' names."""
        return varint(len(places)) + b"".join([text(self.names[place]) for place in places]) + _NULL if places else _NULL


def headers(
    source: bytes, model: str, keys: list[bytes], known: npt.NDArray[np.float64], seqs: list[int], positions: list[int]
) -> list[Headers]:
    """The envelope of each prediction: CloudEvents, cause and place. `known` is in us since the epoch."""
    times = np.datetime_as_string(known.astype(np.int64).astype("datetime64[us]"), unit="us", timezone="UTC").astype("S").tolist()
    name = b"/" + model.encode()
    return [
        [
            _VERSION, ("ce_id", key + name), ("ce_source", source), ("ce_type", _KIND), ("ce_time", time),
            (CAUSED_BY, key), (SEQ, b"%d" % seq), (POSITION, b"%d" % position),
        ]
        for key, time, seq, position in zip(keys, times, seqs, positions, strict=True)
    ]  # fmt: skip


def varint(number: int) -> bytes:
    """Avro's zigzag varint of a number that is not negative."""
    number, out = number << 1, bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes((*out, number))


def text(value: str) -> bytes:
    """An Avro string."""
    data = value.encode()
    return varint(len(data)) + data
