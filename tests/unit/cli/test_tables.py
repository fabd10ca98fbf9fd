"""A table in a pipe, or in a narrow window, has its ids whole."""

from __future__ import annotations

import io

from rich.console import Console

from tidemill.cli import tables


def shown(width: int, *rows: tuple[object, ...]) -> list[str]:
    out = io.StringIO()
    tables.show(("id", "name"), rows, Console(file=out, width=width))
    return out.getvalue().splitlines()


def test_a_row_is_one_line_however_narrow_the_window() -> None:
    ids = [f"{n}" * 60 for n in (1, 2)]
    lines = shown(20, (ids[0], "a [b] c"), (ids[1], None))
    assert [line.split() for line in lines] == [["id", "name"], [ids[0], "a", "[b]", "c"], [ids[1], "-"]]
