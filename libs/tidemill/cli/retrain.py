"""`tidemill retrain MODEL --reason ...`."""

from __future__ import annotations

import getpass
import json
import time
from typing import Annotated

import typer

from tidemill.bus.control_client import Follower, Publisher, read_all
from tidemill.cli.options import AsOutput, DataDir, Output, connected
from tidemill.errors import Refused
from tidemill.events.spec import Applied
from tidemill.events.training import RetrainRequested, RunDeclined, RunRequested
from tidemill.settings import Settings

PATIENCE = 30.0
"""Seconds to wait for training's answer."""


def retrain(
    model: Annotated[str, typer.Argument(help="The model's name.")],
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; it becomes the run's cause.")],
    stream: Annotated[str | None, typer.Option(help="The model's stream, where several have a model of this name.")] = None,
    name: Annotated[str | None, typer.Option("--as", help="Who asks; may not approve the result. Default: the user.")] = None,
    data_dir: DataDir = None,
    output: AsOutput = Output.text,
) -> None:
    """Ask for a retraining, and wait for training's answer: a run, or why there will be none."""
    if not reason.strip():
        raise Refused("no-reason", "--reason must say why; it becomes the run's cause")
    settings = connected(data_dir)
    asked = RetrainRequested(
        stream=stream or _stream_of(model, settings), model=model, requester=name or getpass.getuser(), reason=reason
    )
    with Follower(settings, [RunRequested, RunDeclined], "now") as follower, Publisher(settings, "cli") as publisher:
        answer = _answer(follower, publisher.publish(asked))
    _tell(answer, output)


def _stream_of(model: str, settings: Settings) -> str:
    """The stream whose newest spec has the model; Refused where none or several have."""
    newest = {heard.event.stream: heard.event for heard in read_all(settings, [Applied]) if isinstance(heard.event, Applied)}
    found = [stream for stream, applied in newest.items() if model in json.loads(applied.content)["models"]]
    if len(found) != 1:
        known = f"streams {', '.join(found)} have it; name one with --stream" if found else "no applied spec has it"
        raise Refused("which-model", f"model {model!r}: {known}")
    return found[0]


def _answer(follower: Follower, cause: str) -> RunRequested | RunDeclined:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for heard in follower.poll(0.2):
            if isinstance(heard.event, RunRequested | RunDeclined) and heard.event.cause_id == cause:
                return heard.event
    raise Refused("no-answer", f"training did not answer within {PATIENCE:.0f} s; it will when it runs (see `tidemill status`)")


def _tell(answer: RunRequested | RunDeclined, output: Output) -> None:
    if output is Output.json:
        typer.echo(answer.model_dump_json(indent=2))
    elif isinstance(answer, RunRequested):
        typer.echo(
            f"run {answer.run} of {answer.model} up to position {answer.position}; `tidemill trace {answer.run}` shows its way"
        )
    if isinstance(answer, RunDeclined):
        raise Refused("declined", f"{answer.model} is not retrained: {answer.reason}")
