"""Durations, instants and slides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.spec import format_duration, parse_duration, slide
from tidemill.spec.training import Newest
from tidemill.spec.values import DAY, HOUR, MINUTE, SECOND, format_moment, parse_moment
from tidemill.spec.windows import LONGEST


@pytest.mark.parametrize(
    ("text", "us"), [("0s", 0), ("5m", 300_000_000), ("24h", DAY), ("1d", DAY), ("2w", 14 * DAY), ("250ms", 250_000), ("7us", 7)]
)
def test_a_duration_is_microseconds(text: str, us: int) -> None:
    assert parse_duration(text) == us


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "5 minutes", "1.5h", 5, None, "5M", "1h30m"])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="no duration"):
        parse_duration(text)


@given(st.integers(0, 10**15))
def test_a_duration_survives_its_text(us: int) -> None:
    text = format_duration(us)
    assert parse_duration(text) == us if len(text) < 11 else True


@pytest.mark.parametrize(("us", "name"), [(DAY, "24h"), (7 * DAY, "7d"), (2 * HOUR, "2h"), (90 * MINUTE, "90m"), (3 * HOUR, "3h")])
def test_a_window_has_the_name_people_use(us: int, name: str) -> None:
    assert format_duration(us) == name


@pytest.mark.parametrize(
    ("text", "us"),
    [("1970-01-01", 0), ("1970-01-01T00:00:01Z", SECOND), ("1970-01-01T01:00:00+01:00", 0), ("2013-01-01", 1_356_998_400_000_000)],
)
def test_a_moment_is_utc(text: str, us: int) -> None:
    assert parse_moment(text) == us
    assert parse_moment(format_moment(us)) == us


@pytest.mark.parametrize(
    ("window", "step"),
    [
        ("1h", "5m"),
        ("24h", "1h"),
        ("7d", "1h"),
        ("6h", "15m"),
        ("3h", "6m"),
        ("2h", "5m"),
        ("30m", "2m"),
        ("1m", "5s"),
        ("61m", "1m"),
    ],
)
def test_a_window_is_cut_in_tiles(window: str, step: str) -> None:
    assert format_duration(slide(parse_duration(window))) == step


@given(st.integers(1, LONGEST // SECOND))
def test_a_slide_divides_its_window_and_an_hour(seconds: int) -> None:
    step = slide(seconds * SECOND)
    assert seconds * SECOND % step == 0
    assert HOUR % step == 0


@pytest.mark.parametrize("window", [0, SECOND // 2, SECOND * 3 // 2, LONGEST + SECOND])
def test_an_impossible_window_is_refused(window: int) -> None:
    with pytest.raises(ValueError, match="not possible"):
        slide(window)


@pytest.mark.parametrize("text", ["newest 8%", "newest 7d", "newest 36h"])
def test_a_slice_is_written_back_as_it_was_said(text: str) -> None:
    assert Newest.model_validate(text).model_dump(mode="json") == text


@pytest.mark.parametrize("text", ["newest 0%", "newest 100%", "newest 0d", "newest", "oldest 7d", "7d", 0.1])
def test_what_is_no_slice_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"no slice|no duration"):
        Newest.model_validate(text)
