"""One fold over one partition of one stream: its state, its place in each input, its outputs."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Generic

from confluent_kafka import TopicPartition

from tidemill.bus.fold import Batch, Fold, Rows, State
from tidemill.bus.intake import Place
from tidemill.bus.metrics import IGNORED
from tidemill.bus.output import Output
from tidemill.bus.snapshot import InputMark, Shelf, Stored, fingerprint
from tidemill.bus.tail import Lookup, Schemas, check_tail, code_in, tail_of, values_of
from tidemill.code import mark

logger = logging.getLogger(__name__)


@dataclass
class Worker(Generic[State]):
    """A state between two batches, and all that must be known to stop here and go on elsewhere."""

    fold: Fold[State]
    stream: str
    partition: int
    state: State
    outputs: dict[str, Output]
    places: dict[str, Place]
    """By input topic."""
    shelf: Shelf
    folded: int = 0
    """Records since the newest snapshot."""
    paused: frozenset[str] = frozenset()
    """Names of the inputs that the fold has enough of."""
    writing: Future[int] | None = None
    """The snapshot that is being written."""
    stored_at: float = field(default_factory=time.monotonic)
    """When it was copied."""
    standing: list[TopicPartition] = field(default_factory=list)
    """What may be committed when that is done."""

    def step(self, batch: Batch) -> list[tuple[Output, Rows]]:
        """Fold a batch; what the outputs do not have yet."""
        self.state, said = self.fold.step(self.state, batch)
        return [(self.outputs[rows.output], self.outputs[rows.output].fresh(rows)) for rows in said if len(rows)]

    def stored(self) -> Stored:
        """The state as it stands, in copies: it goes on while they are written."""
        snapshot = self.fold.dump(self.state)
        return Stored(
            self.fold.digest(self.state),
            code_of(self.fold, self.stream, self.partition),
            {topic: _input_mark(place) for topic, place in self.places.items()},
            {name: output.mark for name, output in self.outputs.items()},
            {name: array.copy() for name, array in snapshot.arrays.items()},
            deepcopy(snapshot.meta),
        )

    def offsets(self) -> list[TopicPartition]:
        """The next offset of each input."""
        return [TopicPartition(topic, self.partition, place.offset) for topic, place in self.places.items()]


@dataclass
class Opening(Generic[State]):
    """A worker's start (R4): the outputs' tails, then the newest snapshot that fits them, the inputs and the committed offsets."""

    fold: Fold[State]
    stream: str
    partition: int
    topics: list[str]
    """The inputs that are assigned."""
    committed: dict[str, int]
    """The group's offset of each; 0 where there is none."""
    shelf: Shelf
    lookup: Lookup
    schemas: Schemas

    def open(self) -> Worker[State]:
        """The worker, ready for the next record. Raises Transient, OutputAheadOfLog."""
        outputs = {name: self._output(name) for name in self.fold.outputs}
        code = code_of(self.fold, self.stream, self.partition)
        bounds = {topic: self.lookup.bounds(topic, self.partition) for topic in self.topics}
        for stored in self.shelf.whole():
            if why := self._unfit(stored, code, outputs, bounds):
                IGNORED.labels(why).inc()
                logger.warning("snapshot ignored", extra={"reason": why, **self._where(), "progress": stored.progress})
            elif worker := self._restored(stored, outputs):
                return worker
        places = {topic: Place(bounds[topic][0]) for topic in self.topics}
        return self._worker(self.fold.initial(self.stream, self.partition), outputs, places)

    def _output(self, name: str) -> Output:
        spec = self.fold.outputs[name]
        topic = spec.topic(self.stream)
        if spec.tail == "scan":
            return Output(spec, topic, 0, said=values_of(self.lookup, "ce_id", topic, 0))
        tail = tail_of(self.lookup, topic, self.partition)
        if tail is None:
            return Output(spec, topic, self.partition)
        check_tail(self.lookup, self.schemas, tail, f"log.{self.stream}", self.partition)
        made_by = code_in(self.schemas, tail)
        own = made_by is None or made_by == mark(code_of(self.fold, self.stream, self.partition))
        return Output(spec, topic, self.partition, tail, own)

    def _unfit(self, stored: Stored, code: str, outputs: dict[str, Output], bounds: dict[str, tuple[int, int]]) -> str:
        """Why a snapshot cannot be the start; empty when it can."""
        if stored.code != code:
            return "foreign"
        if any(mark.offset > self.committed.get(topic, mark.offset) for topic, mark in stored.inputs.items()):
            return "uncommitted"
        if stored.outputs.keys() != outputs.keys() or not all(outputs[name].covers(mark) for name, mark in stored.outputs.items()):
            return "output-cut"
        if not all(self._stands_in(topic, mark, bounds[topic]) for topic, mark in stored.inputs.items() if topic in bounds):
            return "other-input"
        return ""

    def _stands_in(self, topic: str, mark: InputMark, bounds: tuple[int, int]) -> bool:
        """Whether the input is the one that the snapshot was made of."""
        low, high = bounds
        if not low <= mark.offset <= high:
            return False
        if not mark.newest or mark.offset == low:
            return True
        message = self.lookup.record(topic, self.partition, mark.offset - 1)
        return message is not None and fingerprint(message.key(), message.value()) == mark.newest

    def _restored(self, stored: Stored, outputs: dict[str, Output]) -> Worker[State] | None:
        state = self.fold.load(self.stream, self.partition, stored.snapshot)
        if self.fold.digest(state) != stored.fold:
            IGNORED.labels("foreign").inc()
            logger.warning("snapshot ignored", extra={"reason": "foreign", **self._where(), "progress": stored.progress})
            return None
        for name, said in stored.outputs.items():
            outputs[name].mark = said
        marks = {topic: stored.inputs.get(topic, InputMark(0, 0, 0, "")) for topic in [*stored.inputs, *self.topics]}
        places = {topic: Place(mark.offset, mark.seq, mark.writer, mark.newest) for topic, mark in marks.items()}
        return self._worker(state, outputs, places)

    def _worker(self, state: State, outputs: dict[str, Output], places: dict[str, Place]) -> Worker[State]:
        offsets = {topic: place.offset for topic, place in places.items()}
        tails = {output.topic: output.tail.seq for output in outputs.values() if output.tail}
        logger.info("partition opened", extra={**self._where(), "offsets": offsets, "tails": tails})
        return Worker(self.fold, self.stream, self.partition, state, outputs, places, self.shelf)

    def _where(self) -> dict[str, Any]:
        return {"stream": self.stream, "partition": self.partition}


def code_of(fold: Fold[Any], stream: str, partition: int) -> str:
    """The digest of a fold's code."""
    return fold.digest(fold.initial(stream, partition))


def _input_mark(place: Place) -> InputMark:
    return InputMark(place.offset, place.seq, place.writer, place.fingerprint)
