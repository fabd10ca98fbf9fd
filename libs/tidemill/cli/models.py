"""`tidemill models list | show | at`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from tidemill.cli import tables
from tidemill.cli.http import get
from tidemill.cli.options import AsOutput, DataDir, Output
from tidemill.errors import Refused
from tidemill.settings import Settings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
Model = Annotated[str, typer.Argument(help="The model's name.")]
Stream = Annotated[str | None, typer.Option(help="The model's stream, where several have a model of this name.")]


@app.command("list")
def list_models(data_dir: DataDir = None, output: AsOutput = Output.text) -> None:
    """List models with their newest version and aliases."""
    models = get(Settings.load(data_dir), "registry", "/v1/models")
    rows = [(one["model"], one["stream"], one["newest"], _aliases(one["aliases"])) for one in models]
    _tell(output, models, ("model", "stream", "newest", "aliases"), rows)


@app.command()
def show(model: Model, stream: Stream = None, data_dir: DataDir = None, output: AsOutput = Output.text) -> None:
    """Show a model's versions, their lineage, and where each served."""
    found = get(Settings.load(data_dir), "registry", f"/v1/models/{model}", **_of(stream))
    columns = ("version", "state", "cause", "rows", "log loss", "AUC", "log range", "artifact")
    _tell(output, found, columns, map(_version, found["versions"]))
    if output is Output.text:
        history = [(one["version"], f"{one['partition']}:{one['position']}", _time(one["stream_time"])) for one in found["history"]]
        _tell(output, found, ("serves", "from position", "stream time"), history)
        typer.echo(f"aliases: {_aliases(found['aliases'])}")


@app.command()
def at(
    place: Annotated[
        str,
        typer.Argument(
            help="A place in the stream's log (OFFSET or PARTITION:OFFSET), or a stream time (ISO 8601, or PARTITION:TIME)."
        ),
    ],
    model: Annotated[str | None, typer.Option(help="Only this model. Default: all.")] = None,
    stream: Annotated[str | None, typer.Option(help="Only models of this stream. Default: of all.")] = None,
    data_dir: DataDir = None,
    output: AsOutput = Output.text,
) -> None:
    """Tell which version served at a place in the log, or at a stream time (UTC where no zone is given)."""
    settings, query = Settings.load(data_dir), _where(place)
    names = [(stream, model)] if model else [(one["stream"], one["model"]) for one in get(settings, "registry", "/v1/models")]
    asked = [(name, _of(of)) for of, name in names if stream in (None, of)]
    found = [one for name, of in asked if (one := get(settings, "registry", f"/v1/models/{name}/at", **query, **of))]
    if not found:
        raise Refused("nobody-served", f"no version of {model or 'any model'} served at {place} yet")
    _tell(output, found, ("stream", "model", "version", "from position", "stream time", "approval", "run"), map(_seat, found))


def _version(one: dict[str, Any]) -> tuple[Any, ...]:
    figures = [f"{one['metrics'].get(name, float('nan')):.4f}" for name in ("log_loss", "auc")]
    lineage = f"{one['from_position']}-{one['to_position']}"
    state = f"{one['state']}: {one['reason']}" if one["reason"] else one["state"]
    return one["version"], state, one["cause_kind"], f"{one['rows']:,}", *figures, lineage, one["artifact"][:19]


def _tell(output: Output, found: Any, columns: tuple[str, ...], rows: Any) -> None:
    if output is Output.json:
        typer.echo(json.dumps(found, indent=2))
        return
    tables.show(columns, rows)


def _aliases(aliases: dict[str, int]) -> str:
    return ", ".join(f"{name}={version}" for name, version in sorted(aliases.items())) or "-"


def _time(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _seat(one: dict[str, Any]) -> tuple[Any, ...]:
    place = f"{one['partition']}:{one['position']}"
    return one["stream"], one["model"], one["version"], place, _time(one["stream_time"]), one["approval"], one["run"]


def _of(stream: str | None) -> dict[str, str]:
    return {"stream": stream} if stream else {}


def _where(place: str) -> dict[str, int]:
    """The registry's question about a place in the log, or about a stream time."""
    number, _, rest = place.partition(":")
    partition, told = (number, rest) if rest and number.isdecimal() else ("0", place)
    where = {"partition": int(partition)}
    if told.isdecimal():
        return where | {"position": int(told)}
    try:
        moment = datetime.fromisoformat(told)
    except ValueError:
        raise Refused("bad-place", f"{place!r} is no place in a log and no ISO 8601 time; write 1234 or 2013-06-01T12:00") from None
    return where | {"time": int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)}
