"""A use case's own feed.py: what it lacks is refused by its file and with a fix."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tidemill.errors import Refused
from tidemill.feed.timeline import Timeline
from tidemill.feed.timeline import load as timeline_of
from tidemill.spec import load

FLIGHTS = Path(__file__).parents[3] / "usecases" / "flights"
EMPTY = """
import json
from pathlib import Path
import pandas as pd

def sources():
    schemas = Path(__file__).parent / "schemas"
    fields = {name: json.loads((schemas / f"{name[:-1]}.v1.avsc").read_text())["fields"] for name in ("departures", "arrivals")}
    fields["weather"] = json.loads((schemas / "weather.v1.avsc").read_text())["fields"]
    return {name: pd.DataFrame(columns=[one["name"] for one in found]) for name, found in fields.items()}
"""
WEATHER = """
    frames["weather"].loc[0] = ["w", 7_000_000] + [None] * (len(frames["weather"].columns) - 2)
    frames["weather"]["origin"] = "EWR"
    return frames
"""
ONE_ROW = EMPTY.replace("return", "frames =") + WEATHER


def fed(folder: Path, text: str) -> Timeline:
    """The timeline of the flights use case with this feed."""
    case = Path(shutil.copytree(FLIGHTS, folder / "case"))
    (case / "feed.py").write_text(text)
    bundle = load(case)
    return timeline_of(case, bundle, dict.fromkeys(bundle.schemas, b"framed"))


@pytest.mark.parametrize(
    ("text", "reason", "message"),
    [
        ("", "no-feed", "feed.py has no sources(); write one that returns"),
        ("sources = 5", "no-feed", "feed.py has no sources(); write one that returns"),
        ("import os\ndef sources(:", "no-feed", "feed.py:2: no Python: invalid syntax; mend that line"),
        ("import not_there", "no-feed", "feed.py: No module named 'not_there'; install what it imports"),
        (
            "def sources():\n    return None",
            "feed-incomplete",
            "feed.py: sources() gives no frame for weather, arrivals, departures",
        ),
        ("def sources():\n    return {'weather': [1]}", "feed-incomplete", "return a dict of a pandas DataFrame by each source"),
        (EMPTY, "feed-incomplete", "feed.py: sources() gives frames without rows: at least one source needs events"),
        (EMPTY.replace("for one in found", "for one in found[1:]"), "feed-incomplete", "without rows"),
        (
            ONE_ROW.replace("return frames", "return frames | {'arrivals': frames['weather']}"),
            "feed-incomplete",
            "gives a frame for arrivals that lacks flight_id, arrived_at",
        ),
        (
            ONE_ROW.replace("7_000_000", "'noon'"),
            "feed-incomplete",
            "gives a frame for weather whose observed_at is no time: ",
        ),
    ],
)
def test_a_feed_that_lacks_something_is_refused_by_its_file_and_with_a_fix(
    tmp_path: Path, text: str, reason: str, message: str
) -> None:
    with pytest.raises(Refused) as caught:
        fed(tmp_path, text)
    assert caught.value.reason == reason
    assert message in caught.value.message
    assert "case/feed.py" in caught.value.message


@pytest.mark.parametrize(
    ("value", "message"), [("'damp'", "is <damp> of type <class 'str'>"), ("'\\ud800'", "surrogates not allowed")]
)
def test_a_row_that_its_schema_cannot_hold_is_refused_by_its_id_and_field(tmp_path: Path, value: str, message: str) -> None:
    column = "temp" if "damp" in value else "origin"
    timeline = fed(tmp_path, ONE_ROW.replace("return frames", f'frames["weather"]["{column}"] = {value}\n    return frames'))
    with pytest.raises(Refused) as caught:
        list(next(lane for lane in timeline.lanes if lane.source == "weather").records(0, timeline.end))
    assert caught.value.reason == "feed-misfit"
    assert "feed.py gives weather a row 'w' that its schema cannot hold: " in caught.value.message
    assert message in caught.value.message


def test_a_source_may_have_no_rows_where_another_has(tmp_path: Path) -> None:
    timeline = fed(tmp_path, ONE_ROW)
    assert (timeline.first, timeline.end) == (7_000_000, 7_000_001)
    counts = {lane.source: [key for key, _ in lane.records(0, timeline.end)] for lane in timeline.lanes}
    assert counts == {"weather": [b"w"], "arrivals": [], "departures": []}
