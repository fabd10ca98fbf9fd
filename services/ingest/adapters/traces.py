"""The spans of sampled events: `raw`, which waited in its topic, and `log`, which was judged and appended."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.ingest.model import U64, RawRows
from tidemill import telemetry
from tidemill.bus.consumer import own_headers
from tidemill.events.identity import sampled


def traced(rows: RawRows, hashes: U64, stream: str, sources: Sequence[str], polled: int) -> dict[int, str]:
    """Record both spans of every sampled row; their `traceparent` by index.

    `hashes` are those of the ids; `polled` is when the rows were read, ns.
    """
    if not telemetry.tracing():
        return {}
    picks = np.flatnonzero(sampled(hashes, telemetry.share())).tolist()
    return {i: _hops(rows, i, int(hashes[i]), stream, sources[rows.source[i]], polled) for i in picks}


def _hops(rows: RawRows, i: int, id_hash: int, stream: str, source: str, polled: int) -> str:
    message, facts = rows.origins[i], {"tidemill.event.id": rows.ids[i], "tidemill.stream": stream, "tidemill.source": source}
    trace, place = telemetry.trace_high(stream, source) << 64 | id_hash, (int(rows.partition[i]), int(rows.offset[i]))
    said = telemetry.parse_traceparent(dict(own_headers(message)).get("traceparent"))
    waited = telemetry.Moment(message.timestamp()[1] * 1_000_000, polled)
    raw = telemetry.record_hop("raw", trace, place, waited, said, attributes=facts)
    log = telemetry.record_hop("log", trace, place, telemetry.Moment(polled, telemetry.now()), raw, attributes=facts)
    return telemetry.traceparent(log)


def around(stream: str, shard: int, traces: Sequence[str], asked: int, polled: int, stepped: int) -> None:
    """The spans of a round with sampled events: `poll`, `process`, `send`, each linked to the events' spans.

    `asked` is when the raw records were asked for, `polled` when they were there, `stepped` when they were judged, all ns.
    """
    if not traces:
        return
    links = [found for text in traces if (found := telemetry.parse_traceparent(text))]
    raw, log = f"raw.{stream}", f"log.{stream}"
    poll = telemetry.new_reference()
    process, send = telemetry.new_reference(poll.trace), telemetry.new_reference(poll.trace)
    about: dict[str, str | int] = {
        "messaging.system": "kafka",
        "messaging.destination.name": raw,
        "messaging.batch.message_count": len(traces),
    }
    telemetry.record_span(f"poll {raw}", poll, telemetry.Moment(asked, polled), None, links, about, "client")
    telemetry.record_span(f"process {raw}", process, telemetry.Moment(polled, stepped), poll, links, about, "consumer")
    about |= {"messaging.destination.name": log, "messaging.destination.partition.id": str(shard)}
    telemetry.record_span(f"send {log}", send, telemetry.Moment(stepped, telemetry.now()), process, links, about, "producer")
