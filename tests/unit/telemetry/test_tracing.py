"""Spans under ids that everyone can compute, written as OTLP-JSON that anyone can read."""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tidemill import telemetry
from tidemill.bus import heads
from tidemill.bus.control import Meta
from tidemill.bus.control.spans import sending
from tidemill.bus.fold import ABOUT, LINK, Batch, OutputTopic, Rows
from tidemill.bus.output import Output
from tidemill.bus.trail import Trail
from tidemill.events import envelope
from tidemill.events.blobs import Blobs
from tidemill.events.identity import hash64, span_id, trace_id
from tidemill.events.monitoring import AlertRaised
from tidemill.events.paths import schemas_dir
from tidemill.events.training import RunRequested
from tidemill.settings import Settings
from tidemill.telemetry.files import FileExporter, read_spans, traces_dir
from tidemill.telemetry.references import Reference, linked, vectors_of

TRACE = trace_id("flights", "departure", "AA1")


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    telemetry.setup("feature-store", Settings(data_dir=tmp_path, trace_sample=0.5))
    yield tmp_path
    telemetry.shutdown()
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)


def exported(data_dir: Path) -> dict[str, dict]:
    telemetry.shutdown()
    return {span["name"]: span for span in read_spans(data_dir)}


def test_a_hop_has_the_ids_that_follow_from_its_event_and_place(data_dir: Path) -> None:
    raw = telemetry.record_hop("raw", TRACE, (0, 7), telemetry.Moment(10, 20))
    telemetry.record_hop(
        "vector", TRACE, (0, 3), telemetry.Moment(30, 45), raw, attributes={"tidemill.position": 3, "left.out": None}
    )
    found = exported(data_dir)
    assert found["raw"]["traceId"] == f"{TRACE:032x}"
    assert "parentSpanId" not in found["raw"]
    assert found["vector"]["spanId"] == f"{span_id(TRACE, 'vector', 0, 3):016x}"
    assert found["vector"]["parentSpanId"] == found["raw"]["spanId"]
    assert (found["vector"]["startTimeUnixNano"], found["vector"]["endTimeUnixNano"]) == ("30", "45")
    assert found["vector"]["attributes"] == [{"key": "tidemill.position", "value": {"intValue": "3"}}]
    assert found["vector"]["service"] == "feature-store"


def test_a_parent_in_another_trace_becomes_a_link(data_dir: Path) -> None:
    telemetry.record_hop("outcome", TRACE, (0, 9), telemetry.Moment(1, 2), Reference(5, 6), [Reference(7, 8)])
    span = exported(data_dir)["outcome"]
    assert "parentSpanId" not in span
    assert [(link["traceId"], link["spanId"]) for link in span["links"]] == [(f"{5:032x}", f"{6:016x}"), (f"{7:032x}", f"{8:016x}")]


def test_a_span_of_too_many_links_keeps_those_that_the_tracer_keeps(data_dir: Path) -> None:
    links = [Reference(7, at) for at in range(1, 1_100)]
    telemetry.record_hop("vector", TRACE, (0, 9), telemetry.Moment(1, 2), Reference(5, 6), links)
    with telemetry.control_span("process a", telemetry.traceparent(Reference(5, 6)), links=map(telemetry.traceparent, links)):
        pass
    spans = exported(data_dir)
    assert [int(link["spanId"], 16) for link in spans["vector"]["links"]] == [*range(1_100 - 1_024, 1_100)]
    assert spans["vector"]["links"] == spans["process a"]["links"]


def test_rows_of_one_cause_and_hop_have_spans_of_their_own(data_dir: Path) -> None:
    about = np.zeros(4, ABOUT)
    about["trace_high"], about["id_hash"] = telemetry.trace_high("flights", "departure"), hash64(b"AA1")
    values = Blobs.of([struct.pack("<5xddd", at, 3.0, 1e15) for at in range(4)])
    rows = Rows(
        "features", 0, Blobs.of([b"AA1"] * 4), values, None, np.array([2, 2, 0, 2]), np.array([0, 1, 0, 0], np.uint8), about=about
    )
    nothing = np.zeros(0, np.int64)
    batch = Batch("log", "flights", 0, nothing, nothing, Blobs.of([]), Blobs.of([]), {}, nothing)
    trail = Trail("feature-store", batch, "log.flights", 0, 0)
    trail.causes = {0: Reference(TRACE, 5), 2: Reference(TRACE, 6)}
    headers = trail.heads(Output(OutputTopic("features", "prefix", hops=("vector", "outcome")), "features.flights", 0), rows)
    spans = [Reference(TRACE, span_id(TRACE, name, 0, 3)) for name in ("vector", "outcome", "vector", "vector.1")]
    assert [dict(heads.read(head))["traceparent"] for head in headers] == [telemetry.traceparent(span).encode() for span in spans]


def test_control_spans_follow_the_cause_and_mark_errors(data_dir: Path) -> None:
    with telemetry.control_span("process a", attributes={"tidemill.run": "r1"}) as first:
        pass
    with pytest.raises(ValueError), telemetry.control_span("process b", first.traceparent) as second:
        second.set({"tidemill.version": 3})
        raise ValueError("no")
    spans = exported(data_dir)
    assert spans["process b"]["parentSpanId"] == spans["process a"]["spanId"]
    assert spans["process b"]["traceId"] == spans["process a"]["traceId"]
    assert spans["process b"]["status"] == {"code": 2, "message": "ValueError: no"}
    assert {"key": "tidemill.version", "value": {"intValue": "3"}} in spans["process b"]["attributes"]


def test_without_setup_there_are_no_spans_but_the_trace_goes_on() -> None:
    with telemetry.control_span("process a", "00-" + "1" * 32 + "-" + "2" * 16 + "-01") as span:
        assert span.traceparent.startswith("00-" + "1" * 32)
    assert not telemetry.tracing()
    assert telemetry.share() == 0


@pytest.mark.parametrize(
    "text", [None, "", "00-xyz", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", b"\xff\xfe", "00-" + "1" * 32 + "-1-01"]
)
def test_what_is_no_traceparent_names_nothing(text: str | bytes | None) -> None:
    assert telemetry.parse_traceparent(text) is None
    assert telemetry.link(text) == (0, 0, 0)


def test_references_survive_headers_and_arrays() -> None:
    reference = Reference(TRACE, 77)
    text = telemetry.traceparent(reference)
    assert telemetry.parse_traceparent(text.encode()) == reference
    rows = np.zeros(2, LINK)
    rows[1] = telemetry.link(text)
    assert [linked(row) for row in rows] == [None, reference]


def test_an_outcome_finds_the_vector_of_its_trigger_without_asking() -> None:
    rows = np.zeros(2, ABOUT)
    rows[1] = (telemetry.trace_high("flights", "departure"), hash64(b"AA1"), 41)
    assert vectors_of(rows, 2) == [None, Reference(TRACE, span_id(TRACE, "vector", 2, 41))]


def test_half_a_surrogate_pair_loses_no_spans(data_dir: Path) -> None:
    telemetry.record_hop("raw", TRACE, (0, 7), telemetry.Moment(1, 2), attributes={"tidemill.event.id": "\ud800é"})
    with pytest.raises(ValueError), telemetry.control_span("process \udfff"):
        raise ValueError("\ud800")
    spans = exported(data_dir)
    assert spans["raw"]["attributes"] == [{"key": "tidemill.event.id", "value": {"stringValue": "?é"}}]
    assert spans["process ?"]["status"]["message"] == "ValueError: ?"


def test_span_files_stay_bounded_and_cut_lines_are_left_out(data_dir: Path) -> None:
    telemetry.record_hop("raw", TRACE, (0, 7), telemetry.Moment(10, 20))
    exported(data_dir)
    written = traces_dir(data_dir) / "feature-store.jsonl"
    line = written.read_bytes()
    small = FileExporter(written, largest=2 * len(line))
    for _ in range(10):
        small._turn(len(line))
        with written.open("ab") as out:
            out.write(line)
    assert sum(path.stat().st_size for path in traces_dir(data_dir).iterdir()) <= 4 * len(line)
    with written.open("ab") as out:
        out.write(line[: len(line) // 2])
    assert {span["name"] for span in read_spans(data_dir)} == {"raw"}


def test_logs_are_one_json_object_a_line(capsys: pytest.CaptureFixture[str], data_dir: Path) -> None:
    telemetry.setup_logs("serving")
    logging.getLogger("x").warning("record left out", extra={"topic": "t", "offset": 3})
    said = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (said["message"], said["service"], said["topic"], said["offset"]) == ("record left out", "serving", "t", 3)


def test_a_run_links_to_its_alert_whichever_window_raised_it(data_dir: Path) -> None:
    alert = AlertRaised.model_validate_json((schemas_dir() / "monitoring/alert-raised.v1.example.json").read_text())
    rows = Rows(
        alert.ce_type(),
        0,
        Blobs.of([None]),
        Blobs.of([b""]),
        heads.of([envelope.headers(alert.alert, "m", alert.ce_type(), 0, caused_by="log.s[0]:7")]),
    )
    nothing = np.zeros(0, np.int64)
    trail = Trail(
        "monitoring",
        Batch("features", alert.stream, 0, nothing, nothing, Blobs.of([]), Blobs.of([]), {}, nothing),
        "features.s",
        0,
        0,
    )
    trail.heads(Output(OutputTopic(alert.ce_type(), "scan", own_trace=True), alert.ce_type(), 0), rows)
    trail.record(1)
    request = RunRequested.model_validate_json((schemas_dir() / "training/run-requested.v1.example.json").read_text())
    sending(
        request.ce_type(),
        "request-1",
        Meta("window-1", 0, 0),
        request.model_copy(update={"cause_kind": "alert", "cause_id": alert.alert, "stream": alert.stream}),
    )
    found = exported(data_dir)
    raised, requested = found[f"say {alert.ce_type()}"], found[f"send {request.ce_type()}"]
    assert [(link["traceId"], link["spanId"]) for link in requested["links"]] == [(raised["traceId"], raised["spanId"])]
