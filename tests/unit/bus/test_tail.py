"""The output's newest record must come of the log that is there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from confluent_kafka import Message

from tests.unit.feature_store.small import bundle
from tidemill.bus.limit import DeadShare, TooManyDead
from tidemill.bus.tail import Lookup, Named, OutputAheadOfLog, Tail, check_tail, code_in, named_by, tail_of
from tidemill.events import features, log, predictions
from tidemill.events.fixed import dtype_of
from tidemill.events.identity import hash64
from tidemill.events.log_header import PREFIX
from tidemill.features.vector import vector_schema

SMALL = bundle({"v": {"source": "asks", "entity": "who", "features": {"n": {"agg": "count", "over": ["1h"]}}}})
SCHEMAS = {
    1: features.Outcome.SCHEMA,
    2: predictions.Prediction.SCHEMA,
    3: log.ModelSwitched.SCHEMA,
    4: features.Failed.SCHEMA,
    5: vector_schema(SMALL, "ask"),
}


class Known:
    """A registry with the schemas above."""

    def schema(self, schema_id: int) -> dict[str, Any]:
        return SCHEMAS[schema_id]


class Broker(Lookup):
    """Topics of one partition, by their records."""

    def __init__(self, **topics: list[tuple[bytes | None, bytes]]) -> None:
        self.topics = topics
        self.low = 0

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return self.low, len(self.topics[topic])

    def record(self, topic: str, partition: int, offset: int) -> Message | None:
        records = self.topics[topic]
        return Message(key=records[offset][0], value=records[offset][1]) if self.low <= offset < len(records) else None

    def newest(self, topic: str, partition: int, count: int) -> list[Message]:
        return [Message(key=key, value=value) for key, value in self.topics[topic][-count:]]


def row(schema: int, **fields: float) -> bytes:
    rows = np.zeros(1, dtype_of(SCHEMAS[schema]))
    rows["frame"] = np.void(b"\0" + schema.to_bytes(4, "big"))
    for name, value in fields.items():
        rows[name] = value
    return rows.tobytes()


def prefix(schema: int, seq: int, position: int) -> bytes:
    return np.array([(b"\0" + schema.to_bytes(4, "big"), seq, position, 0)], PREFIX).tobytes() + b"rest"


LOG: list[tuple[bytes | None, bytes]] = [(b"e0", b""), (b"e1", b""), (None, b""), (b"e3", b"")]


def test_the_tail_is_the_highest_number_even_behind_a_late_batch() -> None:
    records: list[tuple[bytes | None, bytes]] = [(None, prefix(2, seq, seq)) for seq in (5, 6, 7, 4, 5)]
    found = tail_of(Broker(out=[*records, (None, b"no record of ours")]), "out", 0)
    assert found is not None and (found.seq, found.position) == (7, 7)
    assert tail_of(Broker(out=[]), "out", 0) is None


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        (b"match", row(1, seq=9, position=3, trigger_position=1, id_hash=hash64(b"e1")), Named(1, hash64(b"e1"))),
        (b"e1", prefix(2, 9, 1), Named(1, hash64(b"e1"))),
        (None, prefix(3, 9, 2), Named(2, None)),
        (None, row(4, seq=9, position=3, id_hash=hash64(b"e3")), Named(3, hash64(b"e3"))),
    ],
    ids=["outcome", "prediction", "switch", "failed"],
)
def test_a_tail_of_this_log_is_taken(key: bytes | None, value: bytes, named: Named) -> None:
    tail = Tail(9, named.position if value[4] != 1 else 3, key, value)
    assert named_by(Known(), tail) == named
    check_tail(Broker(log=LOG), Known(), tail, "log", 0)


@pytest.mark.parametrize(
    ("position", "key"), [(4, b"e4"), (1, b"e3"), (2, b"e1")], ids=["beyond the end", "another event", "a control record"]
)
def test_a_tail_of_another_log_stops_the_worker(position: int, key: bytes) -> None:
    with pytest.raises(OutputAheadOfLog, match="output ahead of its log"):
        check_tail(Broker(log=LOG), Known(), Tail(9, position, key, prefix(2, 9, position)), "log", 0)


def test_a_vector_tells_which_code_made_it() -> None:
    assert code_in(Known(), Tail(9, 1, b"e1", row(5, code=77))) == 77
    assert code_in(Known(), Tail(9, 1, b"e1", row(1, id_hash=hash64(b"e1")))) is None


def test_below_a_trimmed_log_the_genesis_vouches() -> None:
    broker = Broker(log=LOG)
    broker.low = 2
    check_tail(broker, Known(), Tail(9, 1, b"e1", prefix(2, 9, 1)), "log", 0)


def test_a_service_stops_when_most_of_its_newest_input_dies() -> None:
    share = DeadShare(share=0.5, window=1000, least=100)
    for _ in range(50):
        share.count(100, 10)
    for _ in range(5):
        share.count(100, 90)
    with pytest.raises(TooManyDead, match="could not be taken"):
        share.count(100, 90)


def test_a_share_goes_on_with_what_a_former_life_has_seen() -> None:
    share = DeadShare(share=0.5, window=1000, least=100)
    share.resume(1000, 400)
    share.count(100, 100)
    assert share.seen == (1100, 500)
    with pytest.raises(TooManyDead):
        share.count(150, 150)


def test_what_somebody_has_let_pass_stops_no_later_life() -> None:
    lenient, strict = DeadShare(share=1.0, least=100), DeadShare(share=0.5, least=100)
    lenient.count(300, 300)
    strict.resume(*lenient.seen)
    strict.count(1, 0)
    assert strict.seen == (1, 0)


def test_few_dead_records_never_stop_a_service() -> None:
    share = DeadShare(share=0.5, window=1000, least=100)
    share.count(60, 60)
    share.count(0, 0)
    share.count(1000, 0)
    share.count(99, 99)
