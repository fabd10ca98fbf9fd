"""The pipeline on Quix Streams: its consumer, its state store (RocksDB with a changelog topic), its producer."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import work
from quixstreams import Application, State


def departure(value: bytes) -> dict[str, Any] | None:
    """A departure's row with its time in microseconds; None for other events."""
    row = work.decode(value)
    return None if row is None else {**row, "departed_at": work.micros(row["departed_at"])}


def predict(row: dict[str, Any], state: State) -> bytes:
    """One prediction; the state is that of the message's key, the origin."""
    tiles = state.get("tiles", {})
    mean = work.mean(tiles, row["departed_at"], row["dep_delay"])
    state.set("tiles", tiles)
    return work.score(row, mean)


def main() -> None:
    """Process all departures, then end."""
    app = Application(
        broker_address=work.BOOTSTRAP,
        consumer_group=os.environ["PIPELINE_SINK"],
        auto_offset_reset="earliest",
        state_dir=tempfile.mkdtemp(),
        loglevel="WARNING",
    )
    source = app.topic(work.SOURCE, value_deserializer="bytes", key_deserializer="bytes")
    sink = app.topic(work.SINK, value_serializer="bytes", key_serializer="bytes")
    frame = app.dataframe(source).apply(departure).filter(lambda row: row is not None)
    frame.apply(predict, stateful=True).to_topic(sink)
    app.run(count=work.COUNT, collect=False)


if __name__ == "__main__":
    main()
