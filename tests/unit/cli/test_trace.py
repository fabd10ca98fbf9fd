"""What `tidemill trace` tells where no stack runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tidemill.telemetry.files import traces_dir

HOLE = "may not be all of it"


def trace(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tidemill.cli.main", "trace", name, "--output", "json", "--data-dir", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write(folder: Path, *spans: tuple[str, str, str]) -> None:
    """Spans (trace, id, name), each the child of the one before it; all bear their trace's name as the id of what they are about."""
    written, parents = [], dict[str, str]()
    for trace_id, span_id, name in spans:
        about = [{"key": "tidemill.event.id", "value": {"stringValue": trace_id}}]
        times = {"startTimeUnixNano": "0", "endTimeUnixNano": "1"}
        one = {
            "traceId": trace_id,
            "spanId": span_id,
            "name": name,
            **times,
            "attributes": about,
            "links": [],
            "status": {"code": 0},
        }
        written.append(one | ({"parentSpanId": parents[trace_id]} if trace_id in parents else {}))
        parents[trace_id] = span_id
    traces_dir(folder).mkdir(parents=True)
    request = {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"spans": written}]}]}
    (traces_dir(folder) / "ingest.jsonl").write_text(json.dumps(request) + "\n")


def test_the_spans_of_a_decision_are_shown_and_it_is_said_that_some_may_be_lacking(tmp_path: Path) -> None:
    write(tmp_path, ("decision", "1", "send governance.rollout-ordered.v1"), ("decision", "2", "append switch"))
    done = trace(tmp_path, "decision")
    assert (done.returncode, HOLE in done.stderr) == (0, True)
    (tree,) = json.loads(done.stdout)
    assert (tree["name"], [child["name"] for child in tree["children"]]) == (
        "send governance.rollout-ordered.v1",
        ["append switch"],
    )


def test_of_an_event_with_its_prediction_nothing_is_lacking(tmp_path: Path) -> None:
    write(tmp_path, *(("event", str(n), hop) for n, hop in enumerate(("raw", "log", "vector", "prediction"))))
    done = trace(tmp_path, "event")
    assert (done.returncode, done.stderr) == (0, "")


def test_what_no_span_tells_of_needs_a_stack(tmp_path: Path) -> None:
    done = trace(tmp_path, "nothing")
    assert (done.returncode, "not-running" in done.stderr) == (1, True)
