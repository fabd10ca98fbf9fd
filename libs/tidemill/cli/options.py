"""Options that many commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Output(StrEnum):
    """How a command answers."""

    text = "text"
    json = "json"


DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where this installation keeps its state. Default: ./.tidemill")]
AsOutput = Annotated[Output, typer.Option("--output", "-o", help="text for people, json for programs")]
