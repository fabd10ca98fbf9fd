"""The spans of a batch: one per traced record that comes of it, and `poll`, `process`, `send` around them.

A record is traced when it bears a `traceparent`; a row when its cause is, when it is about a traced trigger, or when it is a control
event. A batch without any costs nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from tidemill import telemetry
from tidemill.bus import heads
from tidemill.bus.fold import I8, Batch, Rows
from tidemill.bus.output import Output
from tidemill.events.blobs import Blobs
from tidemill.events.envelope import CAUSED_BY, TRACEPARENT, time_text
from tidemill.events.identity import hash64, sampled, span_ids
from tidemill.events.log_header import PREFIX
from tidemill.telemetry import Moment, Reference
from tidemill.telemetry.references import linked, vectors_of
from tidemill.telemetry.tracing import EVENT_ID, Attributes

_LATEST: Final = 253_402_300_800e6
"""The year 10,000, which no text of a time can say."""


@dataclass(slots=True)
class _Span:
    """A row's span, before it is known when the row was sent."""

    name: str
    reference: Reference
    parent: Reference | None
    links: list[Reference]
    attributes: Attributes


@dataclass(slots=True)
class Trail:
    """What a batch leaves in the traces."""

    service: str
    batch: Batch
    topic: str
    polled: int
    """When the batch was asked for, and when it was there, ns."""
    began: int
    causes: dict[int, Reference] = field(default_factory=dict)
    """The traced records of the batch."""
    spans: dict[str, list[_Span]] = field(default_factory=dict)
    """Of the rows, by output topic."""
    stepped: int = 0
    """When the fold was done."""

    def __post_init__(self) -> None:
        found = ((at, telemetry.parse_traceparent(dict(head).get(TRACEPARENT))) for at, head in self.batch.headers.items())
        self.causes = {at: reference for at, reference in found if reference is not None}

    def heads(self, output: Output, rows: Rows) -> Blobs:
        """The rows' headers, with `traceparent` where they are traced."""
        traced = self._control(output, rows) if output.spec.tail == "scan" else self._derived(output, rows)
        found = heads.none(len(rows)) if rows.heads is None else rows.heads
        if not traced:
            return found
        self.spans.setdefault(output.topic, []).extend(traced.values())
        own = [(TRACEPARENT, telemetry.traceparent(span.reference).encode()) for span in traced.values()]
        more = heads.of([[*heads.read(found[at]), header] for at, header in zip(traced, own, strict=True)])
        return found.replaced(np.fromiter(traced, np.int64, len(traced)), more)

    def record(self, sent: int) -> None:
        """Leave the spans; `sent` is when the rows were handed over, ns."""
        if not self.causes and not self.spans:
            return
        for topic, spans in self.spans.items():
            for span in spans:
                attributes = {**span.attributes, "messaging.system": "kafka", "messaging.destination.name": topic}
                moment = Moment(self.began, sent)
                telemetry.record_span(span.name, span.reference, moment, span.parent, span.links, attributes)
        self._around(sent)

    def _derived(self, output: Output, rows: Rows) -> dict[int, _Span]:
        """The spans of rows behind the log."""
        places = self._traced(rows)
        chosen = np.array(places, np.int64)
        causes = [self.causes.get(at) for at in rows.cause[chosen].tolist()] if rows.cause is not None else [None] * len(places)
        vectors = vectors_of(rows.about[chosen], self.batch.partition) if rows.about is not None else [None] * len(places)
        stamps = rows.values.chosen(chosen).heads(PREFIX)[0]
        hops = [output.spec.hops[rows.hop[at] if rows.hop is not None else 0] for at in places]
        traces = [cause.trace if cause else vector.trace if vector else 0 for cause, vector in zip(causes, vectors, strict=True)]
        ordinals = _ordinals(rows, chosen)
        names = [f"{hop}.{ordinal}" if (ordinal := ordinals.get(at)) else hop for at, hop in zip(places, hops, strict=True)]
        positions = stamps["position"].astype(np.int64).tolist()
        ids = span_ids([(trace, name, self.batch.partition, at) for trace, name, at in zip(traces, names, positions, strict=True)])
        spans: dict[int, _Span] = {}
        for at, hop, trace, own, cause, vector, stamp in zip(places, hops, traces, ids, causes, vectors, stamps, strict=True):
            spans[at] = self._row_span(rows, at, hop, Reference(trace, own), cause, vector, stamp)
        return spans

    def _traced(self, rows: Rows) -> list[int]:
        traced = np.zeros(len(rows), np.bool_)
        if self.causes and rows.cause is not None:
            traced |= np.isin(rows.cause, np.fromiter(self.causes, np.int64, len(self.causes)))
        if rows.about is not None and (share := telemetry.share()):
            traced |= sampled(rows.about["id_hash"], share) & (rows.about["id_hash"] != 0)
        found: list[int] = np.flatnonzero(traced).tolist()
        return found

    def _row_span(
        self, rows: Rows, at: int, hop: str, reference: Reference, cause: Reference | None, vector: Reference | None, stamp: np.void
    ) -> _Span:  # fmt: skip
        stream_time = int(stamp["stream_time"])
        links = [vector] if vector and vector not in (reference, cause) else []
        if rows.links is not None and (found := linked(rows.links[at])):
            links.append(found)
        key = rows.keys[at]
        attributes: Attributes = {
            "tidemill.stream": self.batch.stream,
            "tidemill.partition": self.batch.partition,
            "tidemill.position": int(stamp["position"]),
            "tidemill.stream_time": time_text(stream_time) if 0 <= stream_time < _LATEST else None,
            "tidemill.seq": rows.seq + at,
            EVENT_ID: key.decode("utf-8", "replace") if key else None,
        }
        return _Span(hop, reference, cause or (vector if vector != reference else None), links, attributes)

    def _control(self, output: Output, rows: Rows) -> dict[int, _Span]:
        """The spans of control events that the fold says: all of one cause share a trace, unless they have their own."""
        high = hash64(f"{self.batch.stream}/{self.service}".encode())
        spans = {}
        for at, head in enumerate(rows.heads or ()):
            said = dict(heads.read(head))
            event, cause = said["ce_id"], int(rows.cause[at]) if rows.cause is not None else -1
            trace = high << 64 | hash64(event if output.spec.own_trace else said.get(CAUSED_BY, event))
            links = [self.causes[cause]] if cause in self.causes else []
            if rows.links is not None and (found := linked(rows.links[at])):
                links.append(found)
            attributes: Attributes = {"tidemill.stream": self.batch.stream, EVENT_ID: event.decode()}
            reference = Reference(trace, hash64(event))
            spans[at] = _Span(f"say {output.topic}", reference, None, links, attributes)
        return spans

    def _around(self, sent: int) -> None:
        causes, batch = list(self.causes.values()), self.batch
        poll = telemetry.new_reference()
        process = telemetry.new_reference(poll.trace)
        about = _messaging(self.topic, batch.partition, len(batch))
        telemetry.record_span(f"poll {self.topic}", poll, Moment(self.polled, self.began), None, causes, about, "client")
        telemetry.record_span(f"process {self.topic}", process, Moment(self.began, self.stepped), poll, causes, about, "consumer")
        for topic, spans in self.spans.items():
            send, moment = telemetry.new_reference(poll.trace), Moment(self.stepped, sent)
            links, about = [span.reference for span in spans], _messaging(topic, batch.partition, len(spans))
            telemetry.record_span(f"send {topic}", send, moment, process, links, about, "producer")


def _messaging(topic: str, partition: int, count: int) -> Attributes:
    """OpenTelemetry's conventions for a batch (https://opentelemetry.io/docs/specs/semconv/messaging/kafka/)."""
    return {
        "messaging.system": "kafka",
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": str(partition),
        "messaging.batch.message_count": count,
    }


def _ordinals(rows: Rows, chosen: I8) -> dict[int, int]:
    """How many rows of the same hop and cause some rows and those beside them have before them."""
    if rows.cause is None:
        return {}
    before, found = Counter[tuple[int, int]](), dict[int, int]()
    for at in np.flatnonzero(np.isin(rows.cause, rows.cause[chosen])).tolist():
        same = int(rows.cause[at]), int(rows.hop[at]) if rows.hop is not None else 0
        found[at] = before[same]
        before[same] += 1
    return found
