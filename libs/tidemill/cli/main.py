"""The command line's root: a table of commands. Exit codes: 0 done, 1 it failed or was refused, 2 usage."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from tidemill.errors import TidemillError

COMMANDS = {
    "fetch": ("stack", "Fetch and verify the servers, so that nothing needs a network afterwards."),
    "up": ("stack", "Start the stack and the services."),
    "down": ("stack", "End the stack."),
    "status": ("stack", "Show what runs, where, and how far behind it is."),
    "logs": ("stack", "Show a part's log."),
    "validate": ("validate", "Check a use case's files and show what is inferred."),
    "apply": ("apply", "Publish a use case's files as the stream's spec."),
    "feed": ("feed", "Replay a use case's history into its raw topics."),
    "demo": ("demo", "Run the whole loop over a year of real flights."),
    "trace": ("trace", "Show one event's, run's or approval's way through every service."),
    "dlq": ("dlq", "List, show and redrive dead letters."),
    "models": ("models", "Versions, lineage, and which version served when."),
    "approvals": ("approvals", "Decide about versions that wait for people."),
    "audit": ("audit", "Verify the chain of decisions."),
    "retrain": ("retrain", "Ask for a retraining."),
}
"""Command -> (module in this package, one line of help). A module has a function of the command's name, or a group `app`."""


class Lazy(TyperGroup):
    """Imports a command's module when the command is called, and no other: `tidemill status` need not load pandas."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All commands, in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, loaded."""
        if cmd_name not in COMMANDS:
            return None
        module, text = COMMANDS[cmd_name]
        return _load(cmd_name, f"tidemill.cli.{module}", text)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The table, without loading anything."""
        formatter.write_text("Tidemill: events in; features, predictions, alerts, retrained and approved models out.")
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])
        with formatter.section("Options"):
            formatter.write_dl(
                [("--version", "Print the version."), ("-h, --help", "Show this, or after a command its own options.")]
            )


def _load(name: str, module: str, text: str) -> Any:
    loaded = importlib.import_module(module)
    if hasattr(loaded, "app"):
        command = get_command(loaded.app)
    else:
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.command(help=text)(getattr(loaded, name))
        command = get_command(single)
    command.name = name
    return command


app = typer.Typer(
    cls=Lazy, add_completion=False, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)


@app.callback(invoke_without_command=True)
def root(ctx: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Tidemill: events in; features, predictions, alerts, retrained and approved models out."""
    if version:
        typer.echo(importlib.metadata.version("tidemill"))
    elif ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def main() -> None:
    """The console script."""
    logging.getLogger("tidemill").addHandler(logging.NullHandler())  # what a command has to say it says itself
    try:
        app()
    except TidemillError as error:
        sys.exit(f"tidemill: {error}")
    except OSError as error:
        if error.filename is None:
            raise
        sys.exit(f"tidemill: {error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
