"""Tables for people: as wide as they need to be, so that an id can be copied whole and a pipe gets all of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

_WIDEST, _GAP = 10_000, 2


def show(columns: Sequence[str], rows: Iterable[Sequence[Any]], console: Console | None = None) -> None:
    """Print the rows; None is a dash."""
    table = Table(*columns, box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    for row in rows:
        table.add_row(*("-" if value is None else str(value) for value in row))
    console = console or Console()
    wanted = console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum
    console.width = max(console.width, wanted + _GAP * len(columns))
    console.print(table, crop=False, no_wrap=True, overflow="ignore", markup=False)
