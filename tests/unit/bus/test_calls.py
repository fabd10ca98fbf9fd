"""The hot path makes no Python call per record but the produce call, which is C."""

from __future__ import annotations

import numpy as np
import pytest
from confluent_kafka import Message

from tests.calls import calls_of
from tidemill.bus.fold import Batch, Input, OutputTopic, Rows
from tidemill.bus.intake import Place, grouped, intake
from tidemill.bus.output import Output
from tidemill.bus.producer import Sender
from tidemill.bus.tail import Tail
from tidemill.bus.trail import Trail
from tidemill.events.log_header import PREFIX

SOURCE = Input("features")


def messages(count: int) -> list[Message]:
    rows = np.zeros(count, PREFIX)
    rows["seq"] = np.arange(count)
    values = rows.tobytes()
    width = PREFIX.itemsize
    return [
        Message(
            topic="features.s", partition=0, offset=at, key=b"k", value=values[at * width : (at + 1) * width], timestamp=(2, at)
        )
        for at in range(count)
    ]


def pass_on(batch: Batch, output: Output, sender: Sender) -> None:
    """What the loop does around a step."""
    trail = Trail("s", batch, "features.s", 0, 0)
    rows = Rows("predictions", 0, batch.keys, batch.values, cause=np.arange(len(batch)))
    fresh = output.fresh(rows)
    sender.send(output.topic, 0, fresh.keys, fresh.values, trail.headers(output, fresh))
    trail.record(0)


def calls(count: int, tail: Tail | None) -> int:
    sender = Sender({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    output = Output(OutputTopic("predictions.{stream}"), "predictions.s", 0, tail)
    came = messages(count)

    def work() -> None:
        for (topic, partition), group in grouped(came):
            batch, _ = intake(SOURCE, topic, partition, group, Place())
            assert batch is not None
            pass_on(batch, output, sender)

    counted = calls_of(work)
    sender.producer.purge()
    sender.producer.flush(5)
    return counted


@pytest.mark.parametrize("tail", [None, Tail(4, 0, b"k", b"")], ids=["all is new", "some is there already"])
def test_calls_do_not_grow_with_the_records(tail: Tail | None) -> None:
    if tail is not None:
        tail = Tail(4, 0, b"k", messages(5)[-1].value() or b"")
    calls(10, tail)
    assert calls(3_000, tail) < calls(10, tail) + 100  # the client may tell of its lost connections meanwhile
