"""What must hold after a campaign of kills: the log against what was fed, everything else against an undisturbed fold of the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from confluent_kafka import Message

from services.feature_store import app as feature_store
from services.serving import app as serving
from tests.columns import fetched
from tidemill.bus import heads
from tidemill.bus.consumer import read_to_end
from tidemill.bus.fold import Batch, Input, Rows
from tidemill.bus.intake import Place, intake
from tidemill.events import log_header, wire
from tidemill.events.blobs import Blobs
from tidemill.events.feed import Progressed
from tidemill.events.log_header import LOG_HEADER
from tidemill.events.schema_registry import Registry
from tidemill.settings import Settings

HOUR = 3_600_000_000


@dataclass(frozen=True)
class Taken:
    """The records of a topic that a reader takes, and how many there are in all."""

    batch: Batch
    physical: int

    @property
    def pairs(self) -> list[tuple[bytes | None, bytes]]:
        """(key, value) of each."""
        return list(zip(self.batch.keys.tolist(), self.batch.values, strict=True))


def messages_of(settings: Settings, topic: str) -> list[Message]:
    """All of a topic of one partition."""
    return [message for batch in read_to_end(settings, topic) for message in batch]


def valid(messages: Sequence[Message]) -> tuple[npt.NDArray[np.void], list[Message]]:
    """The log's records that are of the last barrier's writer before them (R5), as plainly as the rule says it."""
    rows, kept, writer = [], [], None
    for message in messages:
        row = np.frombuffer(dict(message.headers() or ())[log_header.HEADER], LOG_HEADER)[0]  # type: ignore[arg-type,call-overload]
        writer = row["writer"] if row["kind"] == log_header.BARRIER else writer
        if row["writer"] == writer:
            rows.append(row)
            kept.append(message)
    return np.array(rows, LOG_HEADER), kept


def raw_is_accounted_for(
    settings: Settings, stream: str, sources: Sequence[str], rows: npt.NDArray[np.void], kept: list[Message]
) -> int:
    """Each raw event is in the log, once and in the bytes of its first copy, or is a repeat of one that is; how many repeats."""
    promise, repeats = Registry(settings.schema_registry).id_of(Progressed), 0
    for index, source in enumerate(sources):
        mine = np.flatnonzero((rows["kind"] == log_header.EVENT) & (rows["source"] == index)).tolist()
        logged = {kept[at].key(): (int(rows["raw_offset"][at]), kept[at].value()) for at in mine}
        assert len(logged) == len(mine), f"{source}: an id is in the log twice"
        for message in messages_of(settings, f"raw.{stream}.{source}"):
            if wire.schema_id(message.value() or b"") == promise:
                continue
            first, value = logged[message.key()]
            assert value == message.value()
            assert first <= (message.offset() or 0), f"{source}: the log has a later copy than the first of {message.key()!r}"
            repeats += first != message.offset()
    return repeats


def stream_times(rows: npt.NDArray[np.void]) -> list[int]:
    """The stream time of each of the log's records by R7: the least of the newest known times of sources that are not idle."""
    newest, now, found = dict[int, int](), 0, list[int]()
    for kind, source, known in zip(*(rows[name].tolist() for name in ("kind", "source", "known")), strict=True):
        if kind == log_header.EVENT:
            newest[source] = max(known, newest.get(source, known))
            now = max(now, min(at for at in newest.values() if at >= known - HOUR))
        elif kind == log_header.PROGRESSED:
            now = max(now, known)
        found.append(now)
    return found


def taken(settings: Settings, family: str, stream: str) -> Taken:
    """A topic as its readers take it."""
    topic, messages = f"{family}.{stream}", messages_of(settings, f"{family}.{stream}")
    batch, _ = intake(Input(family, log=family == "log"), topic, 0, fetched(messages), Place())
    assert batch is not None
    return Taken(batch, len(messages))


def undisturbed(settings: Settings, log_: Batch, size: int = 3_000) -> tuple[Batch, Batch]:
    """Features and predictions of a log, by the services' own folds, from its first record, in this process."""
    features = folded(feature_store.build(settings), log_, "features", size)
    return features, folded(serving.build(settings)[0], features, "predictions", size)


def folded(fold: Any, source: Batch, output: str, size: int) -> Batch:
    """One output of one fold."""
    state, said = fold.initial(source.stream, source.partition), list[Rows]()
    for begin in range(0, len(source), size):
        piece = cut(source, begin, begin + size)
        fold.prepare(state, piece)
        state, rows = fold.step(state, piece)
        said += [part for part in rows if part.output == output]
    return joined(said, output, source.stream)


def cut(batch: Batch, begin: int, end: int) -> Batch:
    """Some of a batch's records."""
    part = slice(begin, end)
    log_ = None if batch.log is None else batch.log[part]
    keys, values = batch.keys.chosen(part), batch.values.chosen(part)
    headers = {at - begin: head for at, head in batch.headers.items() if begin <= at < end}
    places = batch.offsets[part], batch.times[part], keys, values, headers, batch.seqs[part]
    return Batch(batch.input, batch.stream, batch.partition, *places, log_)


def joined(said: Sequence[Rows], name: str, stream: str) -> Batch:
    """Rows as the batch that their reader would take."""
    keys, values = Blobs.concat([rows.keys for rows in said]), Blobs.concat([rows.values for rows in said])
    headers = dict(enumerate(heads.read(head) for rows in said for head in rows.heads or ()))
    seqs = np.arange(len(values))
    return Batch(name, stream, 0, seqs, np.zeros_like(seqs), keys, values, headers, seqs)
