"""What answers do to a fetcher, whoever gives them and wherever they are cut. No broker is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tidemill.bus import heads, records
from tidemill.bus.fetcher import Fetcher
from tidemill.events.blobs import Blobs
from tidemill.settings import Settings

PLACE = ("log.s", 0)
NO_ERROR, NOT_LEADER, OFFSET_NOT_AVAILABLE, OUT_OF_RANGE, DENIED = 0, 6, 78, 1, 29


@pytest.fixture
def fetcher() -> Iterator[Fetcher]:
    with closing(Fetcher(Settings(kafka="127.0.0.1:1"), "test")) as found:
        found.assign({PLACE: 0})
        yield found


def batch(begin: int, end: int) -> bytes:
    """Records of one partition from an offset to another, as a broker keeps them."""
    keys = Blobs.of([b"%d" % at for at in range(begin, end)])
    [(count, body)] = records.bodies(keys, keys, heads.none(end - begin))
    return begin.to_bytes(8, "big") + records.framed(body.tobytes(), count, "none", (-1, -1, -1))[8:]


def came(fetcher: Fetcher, asked: int, data: bytes, code: int = NO_ERROR) -> bool:
    return fetcher._came(fetcher._lanes[PLACE], asked, code, 30, data)


def offsets(fetcher: Fetcher) -> list[int]:
    return [at for _, found in fetcher.take(100, 0) for at in found.offsets.tolist()]


def test_two_leaders_answers_from_one_offset_count_once(fetcher: Fetcher) -> None:
    came(fetcher, 0, batch(0, 10))
    came(fetcher, 0, batch(0, 10) + batch(10, 20))
    came(fetcher, 10, batch(10, 20))
    assert offsets(fetcher) == list(range(20))


def test_what_an_answer_cuts_is_not_joined_with_the_next(fetcher: Fetcher) -> None:
    came(fetcher, 0, batch(0, 10) + batch(10, 20)[:90])
    came(fetcher, 10, batch(10, 20) + batch(20, 30))
    assert offsets(fetcher) == list(range(30))
    assert fetcher.lag(PLACE) == 0


def test_errors_pass_by_or_end_it_but_not_for_what_is_dropped(fetcher: Fetcher) -> None:
    lane = fetcher._lanes[PLACE]
    assert came(fetcher, 0, b"", NOT_LEADER) and came(fetcher, 0, b"", OFFSET_NOT_AVAILABLE)
    with pytest.raises(RuntimeError, match="cut behind its readers"):
        came(fetcher, 0, b"", OUT_OF_RANGE)
    with pytest.raises(Exception, match=r"log\.s"):
        came(fetcher, 0, b"", DENIED)
    fetcher.drop([PLACE])
    assert not fetcher._came(lane, 0, OUT_OF_RANGE, 30, b"")


def test_what_is_not_read_has_no_lag_and_cannot_be_paused(fetcher: Fetcher) -> None:
    fetcher.pause([("features.s", 0)])
    assert fetcher.lag(("features.s", 0)) == 0
    came(fetcher, 0, batch(0, 10))
    assert fetcher.lag(PLACE) == 30
