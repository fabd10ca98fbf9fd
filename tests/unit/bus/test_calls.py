"""The hot path makes no Python call per record, from the broker's bytes to the broker's bytes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.calls import calls_of
from tidemill.bus import heads
from tidemill.bus.fold import Batch, Input, OutputTopic, Rows
from tidemill.bus.intake import Place, intake
from tidemill.bus.output import Output
from tidemill.bus.records import bodies, compress, framed, read
from tidemill.bus.tail import Tail
from tidemill.bus.trail import Trail
from tidemill.events.blobs import Blobs
from tidemill.events.log_header import PREFIX

SOURCE = Input("features")


def values(count: int) -> Blobs:
    rows = np.zeros(count, PREFIX)
    rows["seq"] = np.arange(count)
    return Blobs.rows(rows)


def written(count: int) -> bytes:
    """What a broker answers."""
    [(records, body)] = bodies(Blobs.of([b"k"] * count), values(count), heads.none(count))
    return framed(compress(body.tobytes(), "lz4"), records, "lz4", (-1, -1, -1))


def pass_on(batch: Batch, output: Output) -> None:
    """What the loop does around a step."""
    trail = Trail("s", batch, "features.s", 0, 0)
    rows = Rows("predictions", 0, batch.keys, batch.values, cause=np.arange(len(batch)))
    fresh = output.fresh(rows)
    assert sum(count for count, _ in bodies(fresh.keys, fresh.values, trail.heads(output, fresh))) == len(fresh)
    trail.record(0)


def calls(count: int, tail: Tail | None) -> int:
    output = Output(OutputTopic("predictions.{stream}"), "predictions.s", 0, tail)
    answer = written(count)

    def work() -> None:
        came = read(answer, 0)
        assert came is not None
        batch, _ = intake(SOURCE, "features.s", 0, came, Place())
        assert batch is not None
        pass_on(batch, output)

    return calls_of(work)


@pytest.mark.parametrize("tail", [None, Tail(4, 0, b"k", b"")], ids=["all is new", "some is there already"])
def test_calls_do_not_grow_with_the_records(tail: Tail | None) -> None:
    if tail is not None:
        tail = Tail(4, 0, b"k", values(5)[4])
    calls(10, tail)
    assert calls(3_000, tail) == calls(10, tail)
