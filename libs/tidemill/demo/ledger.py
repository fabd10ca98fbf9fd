"""What the topics hold after a replay, as columns. Everything the report says is computed from these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from confluent_kafka import Message

from tidemill.bus.consumer import headers_of
from tidemill.bus.sequence import behind_log, dense, log_stamps, of_writer
from tidemill.errors import Refused
from tidemill.events import log, log_header, wire
from tidemill.events.blobs import Blobs
from tidemill.events.columnar import Decoder
from tidemill.events.identity import hash64_many
from tidemill.events.predictions import Prediction
from tidemill.events.schema_registry import Registry
from tidemill.models.kinds import Kind
from tidemill.models.rollout import Roster
from tidemill.trust.keys import KeyRing

Reader = Callable[[str], Iterator[list[Message]]]
"""All of a topic, in batches, each partition in order."""
I8 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint64]
_PREDICTIONS = {
    **dict.fromkeys(("seq", "position", "event_time", "score"), pl.Float64),
    "version": pl.Int32,
    "appended": pl.Int64,
    **dict.fromkeys(("id", "model", "status"), pl.String),
}
"""The columns that are read where there is no prediction."""


@dataclass(frozen=True)
class RawTopic:
    """One source's raw topic."""

    events: I8
    """Offsets of its events: promises of the feed are left out."""
    ids: U8
    """The hash of each event's key; 0 where it has none."""
    appended: I8
    """Every record's append time in ms, by offset."""

    def rest(self, logged: I8, dead: I8) -> tuple[int, int]:
        """(repeats of events that are in the log, events that are nowhere) among those that are neither in the log nor dead."""
        there = np.isin(self.events, logged)
        out = ~there & ~np.isin(self.events, dead)
        repeated = out & (self.ids != 0) & np.isin(self.ids, self.ids[there])
        return int(repeated.sum()), int((out & ~repeated).sum())


@dataclass(frozen=True)
class Log:
    """The stream's log: `kind`, `source`, `known`, `raw_offset` of each valid record, and its offset."""

    rows: npt.NDArray[np.void]
    offsets: I8
    turns: dict[int, bytes]
    """Adopted specs and switches by offset, in order."""

    @property
    def events(self) -> int:
        """Source events."""
        return int((self.rows["kind"] == log_header.EVENT).sum())

    def raw_offsets(self, source: int) -> I8:
        """Where the events of a source (by its number) stand in their raw topic."""
        mine = (self.rows["kind"] == log_header.EVENT) & (self.rows["source"] == source)
        found: I8 = self.rows["raw_offset"][mine]
        return found

    def holding(self, stream: str, registry: Registry, ring: KeyRing) -> set[tuple[str, int, int]]:
        """(model, version, offset) of the switches whose decision verifies, by the rule by which serving follows them."""
        roster, found = Roster(stream), set()
        for offset, value in self.turns.items():
            event = wire.decode(value, registry)
            assert isinstance(event, log.SpecAdopted | log.ModelSwitched)
            try:
                roster = roster.turned(event, (0, 0, 0), ring)
            except Refused:
                continue
            if isinstance(event, log.ModelSwitched):
                found.add((event.model, event.version, offset))
        return found

    @property
    def inversions(self) -> int:
        """Source events that are known earlier than the one before them."""
        known = self.rows["known"][self.rows["kind"] == log_header.EVENT]
        return int((np.diff(known) < 0).sum())


def read_raw(read: Reader, topic: str, registry: Registry) -> RawTopic:
    """One raw topic of one partition."""
    appended, schemas, keys = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    for batch in read(topic):
        appended.append(np.array([message.timestamp()[1] for message in batch], np.int64))
        schemas.append(wire.schema_ids(_values(batch)))
        keys.append(hash64_many(Blobs.of([message.key() for message in batch])))
    numbers = np.concatenate(schemas)
    promises = [number for number in np.unique(numbers).tolist() if _name(registry, number) == "tidemill.feed.Progressed"]
    events = np.flatnonzero(~np.isin(numbers, promises))
    return RawTopic(events, np.concatenate(keys)[events], np.concatenate(appended))


def read_log(read: Reader, topic: str) -> Log:
    """The log as its readers see it (R1, R5). Raises Gap."""
    found, offsets, turns = [np.zeros(0, log_header.LOG_HEADER)], [np.zeros(0, np.int64)], dict[int, bytes]()
    writer, following = 0, 0
    for batch in read(topic):
        rows, places = log_stamps(headers_of(batch))
        writer, valid = of_writer(rows, writer)
        rows, places = rows[valid], places[valid]
        _, fresh, following = dense(rows, following, topic, log=True)
        rows, places = rows[fresh], places[fresh]
        found.append(rows)
        offsets.append(np.array([batch[at].offset() for at in places.tolist()], np.int64))
        turning = places[np.isin(rows["kind"], (log_header.SPEC_ADOPTED, log_header.MODEL_SWITCHED))]
        turns |= {batch[at].offset() or 0: batch[at].value() or b"" for at in turning.tolist()}
    return Log(np.concatenate(found), np.concatenate(offsets), turns)


def read_features(read: Reader, topic: str, registry: Registry) -> dict[Kind, npt.NDArray[np.void]]:
    """The rows of every kind but control records."""
    values: dict[int, list[bytes]] = {}
    for batch in _fresh(read, topic):
        came = _values(batch)
        for number, payload in zip(wire.schema_ids(came).tolist(), came, strict=True):
            values.setdefault(number, []).append(payload)
    found: dict[Kind, list[bytes]] = {}
    for number, payloads in values.items():
        found.setdefault(Kind.of(registry.schema(number)), []).extend(payloads)
    return {kind: np.frombuffer(b"".join(payloads), kind.dtype) for kind, payloads in found.items() if kind.dtype is not None}


def read_predictions(read: Reader, topic: str) -> pl.DataFrame:
    """Columns of `Prediction` (scalars only), `id` of the trigger and `appended` (ms), a row per sequence number, in order."""
    frames, decoder = [], Decoder(Prediction.SCHEMA)
    for batch in _fresh(read, topic):
        decoded = decoder.decode(_values(batch))
        appended = pl.Series("appended", [message.timestamp()[1] for message in batch], pl.Int64)
        ids = pl.Series("id", [(message.key() or b"").decode() for message in batch], pl.String)
        frames.append(decoded.frame.drop("missing").with_columns(appended.gather(decoded.good), ids.gather(decoded.good)))
    if not frames:
        return pl.DataFrame(schema=_PREDICTIONS)
    return pl.concat(frames)


def _fresh(read: Reader, topic: str) -> Iterator[list[Message]]:
    """What is behind the log as its readers see it: a restarted writer may have repeated its last records (R1). Raises Gap."""
    following = 0
    for batch in read(topic):
        _, places, following = behind_log(_values(batch), following, topic)
        if len(places):
            yield [batch[at] for at in places.tolist()]


def _values(batch: list[Message]) -> Blobs:
    return Blobs.of([message.value() for message in batch])


def _name(registry: Registry, number: int) -> str:
    if number < 0:
        return ""
    schema = registry.schema(number)
    return f"{schema.get('namespace', '')}.{schema['name']}"
