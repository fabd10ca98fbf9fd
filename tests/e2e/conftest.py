"""One demonstration for all stories of a session: the flights until the end of January, with a first model in service; and sites."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.chaos_site import Site, new_site
from tests.e2e.demo_site import Demo

HERE = Path(__file__).parent
UNTIL = "2013-01-30"
"""A few days behind the first switch, and more than 50,000 records in the log."""
SAMPLE = "0.05"
"""Share of the events that leave spans."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the stories, those of the one demonstration come first, and last of them those for which its servers are ended: so they are
    started once, and stand idle beside no other story.
    """
    items.sort(key=place)


def place(item: pytest.Item) -> tuple[bool, ...]:
    """What is no story keeps its place before them."""
    needs = item.fixturenames if isinstance(item, pytest.Function) and HERE in item.path.parents else None
    return (False,) if needs is None else (True, "demo" not in needs, "month" in needs)


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    """The demonstration of this session; whoever needs its servers asks for its status.

    `TIDEMILL_TEST_DEMO` names the data directory of one that was run before, to use instead.
    """
    if given := os.environ.get("TIDEMILL_TEST_DEMO"):
        yield Demo(Path(given))
        return
    root = Path(tempfile.mkdtemp(prefix="tidemill-demo-"))
    root.chmod(0o755)  # PostgreSQL may run as a user of its own
    shown = Demo(root / "data")
    try:
        words = ("demo", "--headless", "--until", UNTIL, "--keep", "--output", "json")
        sys.stderr.write(shown.tidemill(*words, TIDEMILL_TRACE_SAMPLE=SAMPLE))
        yield shown
    finally:
        shown.tidemill("down")
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def site() -> Iterator[Site]:
    """A place for a stack whose processes may be killed."""
    with new_site() as made:
        yield made
