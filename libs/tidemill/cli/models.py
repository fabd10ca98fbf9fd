"""`tidemill models list | show | at`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tidemill.cli.http import get
from tidemill.cli.options import AsOutput, DataDir, Output
from tidemill.errors import Refused
from tidemill.settings import Settings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
Model = Annotated[str, typer.Argument(help="The model's name.")]


@app.command("list")
def list_models(data_dir: DataDir = None, output: AsOutput = Output.text) -> None:
    """List models with their newest version and aliases."""
    models = get(Settings.load(data_dir), "registry", "/v1/models")
    rows = [(one["model"], one["stream"], one["newest"], _aliases(one["aliases"])) for one in models]
    _tell(output, models, ("model", "stream", "newest", "aliases"), rows)


@app.command()
def show(model: Model, data_dir: DataDir = None, output: AsOutput = Output.text) -> None:
    """Show a model's versions, their lineage, and where each served."""
    found = get(Settings.load(data_dir), "registry", f"/v1/models/{model}")
    _tell(output, found, ("version", "cause", "rows", "log loss", "AUC", "log range", "artifact"), map(_version, found["versions"]))
    if output is Output.text:
        history = [
            (one["version"], f"{one['partition']}:{one['position']}", _time(one["effective_at"])) for one in found["history"]
        ]
        _tell(output, found, ("serves", "from position", "event time"), history)
        typer.echo(f"aliases: {_aliases(found['aliases'])}")


@app.command()
def at(
    model: Model,
    position: Annotated[int | None, typer.Option(help="Offset in the stream's log.")] = None,
    partition: Annotated[int, typer.Option(help="Partition (shard) of the log.")] = 0,
    time: Annotated[str | None, typer.Option(help="Event time, ISO 8601, UTC where no zone is given.")] = None,
    data_dir: DataDir = None,
    output: AsOutput = Output.text,
) -> None:
    """Tell which version served at a position of the log, or at an event time."""
    query = {"position": position, "partition": partition, "time": _micros(time) if time else None}
    found = get(Settings.load(data_dir), "registry", f"/v1/models/{model}/at", **query)
    row = (
        found["version"],
        f"{found['partition']}:{found['position']}",
        _time(found["effective_at"]),
        found["approval"],
        found["run"],
    )
    _tell(output, found, ("version", "from position", "event time", "approval", "run"), [row])


def _version(one: dict[str, Any]) -> tuple[Any, ...]:
    figures = [f"{one['metrics'].get(name, float('nan')):.4f}" for name in ("log_loss", "auc")]
    lineage = f"{one['from_position']}-{one['to_position']}"
    return one["version"], one["cause_kind"], f"{one['rows']:,}", *figures, lineage, one["artifact"][:19]


def _tell(output: Output, found: Any, columns: tuple[str, ...], rows: Any) -> None:
    if output is Output.json:
        typer.echo(json.dumps(found, indent=2))
        return
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(str, row))
    Console().print(table)


def _aliases(aliases: dict[str, int]) -> str:
    return ", ".join(f"{name}={version}" for name, version in sorted(aliases.items())) or "-"


def _time(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _micros(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refused("bad-time", f"--time {text!r} is no ISO 8601 time; write 2013-06-01T12:00") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)
