"""Predictions as bytes, without a Python call per event.

A prediction is Avro with parts of varying width (the model's name, its version, the names of missing features). For rows of one
version these are constant but the last: so a structured array holds the constant layout, and what is missing is encoded once per
distinct pattern and appended.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidemill.bus import heads
from tidemill.events.blobs import Blobs
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

    def encode(self, frame: bytes, seqs: npt.NDArray[np.int64]) -> Blobs:
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
        return Blobs.rows(rows).followed(self._tails())

    def envelopes(self, source: str, keys: Blobs, seqs: npt.NDArray[np.int64]) -> Blobs:
        """Each row's headers: CloudEvents, cause and place. `keys`: the triggers' ids."""
        keys, count, known = keys.present().packed(), len(keys), self.heads["known_time"].astype(np.int64).astype("datetime64[us]")
        return heads.columns(
            {
                "ce_specversion": Blobs.same(b"1.0", count),
                "ce_id": keys.followed(Blobs.same(b"/" + self.model.encode(), count)),
                "ce_source": Blobs.same(source.encode(), count),
                "ce_type": Blobs.same(_KIND, count),
                "ce_time": Blobs.of_strings(np.datetime_as_string(known, unit="us", timezone="UTC").astype("S")),
                CAUSED_BY: keys,
                SEQ: Blobs.of_strings(seqs.astype("S")),
                POSITION: Blobs.of_strings(self.heads["position"].astype(np.int64).astype("S")),
            }
        )

    def _bare(self, frame: bytes, seqs: npt.NDArray[np.int64]) -> Blobs:
        """Without version, score, decision, threshold; nothing is missing where nothing was asked for."""
        rows = self._rows(frame, seqs, [("nothing", "V5")])
        rows["nothing"] = np.void(_NULL * 5)
        return Blobs.rows(rows)

    def _rows(self, frame: bytes, seqs: npt.NDArray[np.int64], rest: list[tuple[str, str]]) -> npt.NDArray[np.void]:
        name = text(self.model)
        rows = np.zeros(len(self.index), np.dtype([*_HEAD, ("model", f"V{len(name)}"), *rest]))
        rows["frame"], rows["model"] = np.void(frame), np.void(name)
        rows["seq"], rows["status"] = seqs, self.status
        for field in ("position", "stream_time", "event_time", "known_time"):
            rows[field] = self.heads[field]
        return rows

    def _tails(self) -> Blobs:
        """Each row's encoded list of missing features, each distinct one once among the bytes."""
        assert self.missing is not None
        if not self.missing.any():
            return Blobs.same(_NULL, len(self.missing))
        packed = np.packbits(self.missing, axis=1)
        keys = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
        _, first, pattern = np.unique(keys, return_index=True, return_inverse=True)
        return Blobs.of([self._tail(np.flatnonzero(self.missing[at]).tolist()) for at in first.tolist()]).chosen(pattern.ravel())

    def _tail(self, places: list[int]) -> bytes:
        """An Avro array of the features' names."""
        return varint(len(places)) + b"".join([text(self.names[place]) for place in places]) + _NULL if places else _NULL


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
