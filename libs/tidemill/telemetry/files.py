"""Spans as lines of OTLP-JSON in files of bounded size, for an installation without a collector.

Each line is one ExportTraceServiceRequest (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding), so that a collector's
file receiver can read what is here.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext
from pydantic_core import to_json

logger = logging.getLogger(__name__)

LARGEST: Final = 64 * 2**20
"""Bytes of one file. When it is full it becomes the older one, and the older one goes."""

_KINDS: Final = {"INTERNAL": 1, "SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}
_STATUS: Final = {"UNSET": 0, "OK": 1, "ERROR": 2}


def traces_dir(data_dir: Path) -> Path:
    """Where an installation's span files are."""
    return data_dir / "traces"


class FileExporter(SpanExporter):
    """Appends to `<service>.jsonl`; `<service>.old.jsonl` is the file before it."""

    def __init__(self, path: Path, largest: int = LARGEST) -> None:
        self._path, self._largest = path, largest
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """One line for all spans."""
        line = to_json(_request(spans), inf_nan_mode="constants") + b"\n"
        try:
            with self._lock:
                self._turn(len(line))
                with self._path.open("ab") as out:
                    out.write(line)
        except OSError as error:
            logger.warning("spans were lost", extra={"error": str(error), "count": len(spans)})
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def _turn(self, coming: int) -> None:
        if self._path.exists() and self._path.stat().st_size + coming > self._largest:
            self._path.replace(self._path.with_suffix(".old.jsonl"))


def read_spans(data_dir: Path) -> Iterator[dict[str, Any]]:
    """Every span of an installation as its OTLP-JSON object, with `service` added; a line that was cut by a crash is left out."""
    for path in sorted(traces_dir(data_dir).glob("*.jsonl")):
        with path.open("rb") as lines:
            for line in lines:
                yield from _spans(line)


def _spans(line: bytes) -> Iterator[dict[str, Any]]:
    try:
        request = json.loads(line)
    except ValueError:
        return
    for resource in request["resourceSpans"]:
        service = next((a["value"]["stringValue"] for a in resource["resource"]["attributes"] if a["key"] == "service.name"), "")
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                yield {**span, "service": service}


def _request(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    resource = spans[0].resource.attributes if spans else {}
    scope = {"scope": {"name": "tidemill"}, "spans": [_span(span) for span in spans]}
    return {"resourceSpans": [{"resource": {"attributes": _attributes(resource)}, "scopeSpans": [scope]}]}


def _span(span: ReadableSpan) -> dict[str, Any]:
    parent = {"parentSpanId": f"{span.parent.span_id:016x}"} if span.parent else {}
    return {
        **_ids(span.context),
        **parent,
        "name": _text(span.name),
        "kind": _KINDS[span.kind.name],
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": _attributes(span.attributes or {}),
        "links": [{**_ids(link.context), "attributes": _attributes(link.attributes or {})} for link in span.links],
        "events": [
            {"timeUnixNano": str(event.timestamp), "name": event.name, "attributes": _attributes(event.attributes or {})}
            for event in span.events
        ],
        "status": {"code": _STATUS[span.status.status_code.name], "message": _text(span.status.description or "")},
    }


def _ids(context: SpanContext | None) -> dict[str, str]:
    return {"traceId": f"{context.trace_id:032x}", "spanId": f"{context.span_id:016x}"} if context else {}


def _attributes(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, (list, tuple)):
        return {"arrayValue": {"values": [_value(one) for one in value]}}
    return {"stringValue": _text(str(value))}


def _text(text: str) -> str:
    """What UTF-8 can say of it: half a surrogate pair in one text must not lose a line of spans."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
