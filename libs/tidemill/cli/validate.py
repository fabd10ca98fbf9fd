"""`tidemill validate FOLDER`: what is wrong with a use case's files, or what was understood and inferred."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tidemill.cli import tables
from tidemill.cli.options import AsOutput, CheckedDataDir, Output
from tidemill.features.vector import vector_schema
from tidemill.settings import Settings
from tidemill.spec import Bundle, SpecErrors, format_duration, load, slide
from tidemill.spec.checks import feature_names


def validate(
    folder: Annotated[Path, typer.Argument(help="The use case: stream.yaml, models/*.yaml and the schemas they name.")],
    data_dir: CheckedDataDir = None,
    output: AsOutput = Output.text,
) -> None:
    """Check a use case's files and show what is inferred."""
    Settings.given(data_dir)
    try:
        bundle = load(folder)
    except SpecErrors as errors:
        _tell_errors(errors, output)
        raise typer.Exit(1) from None
    if output is Output.json:
        typer.echo(json.dumps(inferred(bundle)))
    else:
        _tell(bundle)


def inferred(bundle: Bundle) -> dict[str, Any]:
    """What the files say and what follows from it, as plain values."""
    stream = bundle.stream
    return {
        "stream": stream.stream,
        "digest": bundle.digest,
        "sources": {name: len(bundle.columns(name)) for name in stream.sources},
        "windows": [
            {"view": view, "feature": feature, "agg": spec.agg, "window": format_duration(window)}
            | {"slide": format_duration(slide(window)), "tiles": window // slide(window)}
            for view, of in stream.views.items()
            for feature, spec in of.features.items()
            for window in spec.over
        ],
        "vectors": {name: len(vector_schema(bundle, name)["fields"]) for name in stream.triggers},
        "models": {name: feature_names(bundle, model) for name, model in bundle.models.items()},
    }


def _tell_errors(errors: SpecErrors, output: Output) -> None:
    if output is Output.json:
        typer.echo(json.dumps({"errors": [vars(error) for error in errors.errors]}))
        return
    for error in errors.errors:
        typer.echo(str(error), err=True)
    typer.echo(f"{len(errors.errors)} to mend", err=True)


def _tell(bundle: Bundle) -> None:
    found, console = inferred(bundle), Console(soft_wrap=True)
    console.print(f"stream [b]{found['stream']}[/b]  {found['digest'][:19]}")
    for name, source in bundle.stream.sources.items():
        console.print(
            f"  source {name}: raw.{found['stream']}.{name}, id {source.id}, time {source.time}, {found['sources'][name]} columns"
        )
    columns = ("view", "feature", "agg", "window", "slide", "tiles")
    tables.show(columns, ([row[name] for name in columns] for row in found["windows"]), console)
    for name, width in found["vectors"].items():
        console.print(f"  trigger {name}: a vector of {width} fields")
    for name, names in found["models"].items():
        console.print(f"  model {name}: {len(names)} features")
