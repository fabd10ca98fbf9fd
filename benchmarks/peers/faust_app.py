"""The pipeline on Faust: an agent, a table with its changelog topic, a sink topic."""

from __future__ import annotations

import os
import tempfile

import faust
import work

app = faust.App(
    os.environ["PIPELINE_SINK"] + "-app",
    broker=f"kafka://{work.BOOTSTRAP}",
    value_serializer="raw",
    key_serializer="raw",
    datadir=tempfile.mkdtemp(),
    topic_partitions=1,
    topic_replication_factor=1,
    web_enabled=False,
    stream_wait_empty=False,
    consumer_auto_offset_reset="earliest",
)
source = app.topic(work.SOURCE, value_type=bytes, key_type=bytes, value_serializer="raw", key_serializer="raw")
sink = app.topic(work.SINK, value_type=bytes, key_type=bytes, value_serializer="raw", key_serializer="raw")
tiles = app.Table("tiles", default=dict, partitions=1, key_type=str, value_type=dict)


@app.agent(source)
async def predict(stream: faust.StreamT[bytes]) -> None:
    """One prediction per departure, in order."""
    async for key, value in stream.items():
        row = work.decode(value)
        if row is None:
            continue
        name = row["origin"]
        found = tiles[name]
        mean = work.mean(found, work.micros(row["departed_at"]), row["dep_delay"])
        tiles[name] = found
        await sink.send(key=key, value=work.score(row, mean))


if __name__ == "__main__":
    app.main()
