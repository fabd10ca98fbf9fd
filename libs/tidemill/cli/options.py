"""Options that many commands share, and the settings that they lead to."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tidemill.errors import Refused
from tidemill.settings import Settings


class Output(StrEnum):
    """How a command answers."""

    text = "text"
    json = "json"


DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where this installation keeps its state. Default: ./.tidemill")]
CheckedDataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="As for every command. This one checks it with the other settings, and uses nothing in it."),
]
AsOutput = Annotated[Output, typer.Option("--output", "-o", help="text for people, json for programs")]


def connected(data_dir: Path | None) -> Settings:
    """The settings of a command that talks to Kafka; Refused where no stack runs and nobody named outside servers."""
    from tidemill.stack.state import State

    given = Settings.given(data_dir)
    if not (given.kafka and given.schema_registry):
        state = State.read(given.data_dir)
        if state is None or not state.runs:
            servers = "outside servers are named by the settings kafka and schema_registry"
            raise Refused("not-running", f"no stack runs in {given.data_dir}; `tidemill up` starts one ({servers})")
    return Settings.load(data_dir)
