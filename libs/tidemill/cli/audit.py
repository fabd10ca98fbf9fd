"""`tidemill audit verify | list | export`: the chain is read from its topic or from an exported file, and recomputed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from tidemill.cli.options import DataDir, connected
from tidemill.errors import Refused
from tidemill.events.governance import AuditAppended
from tidemill.settings import Settings
from tidemill.trust import audit

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
_HASH = re.compile("[0-9a-f]{64}")
File = Annotated[Path | None, typer.Option("--file", help="An exported chain instead of the topic: needs no server.")]


@app.command()
def verify(
    data_dir: DataDir = None,
    file: File = None,
    expect: Annotated[
        str | None, typer.Option(help="The last hash of an earlier `verify`: a chain that has lost it was cut off or made anew.")
    ] = None,
) -> None:
    """Recompute every link. Exit code 1, and the first broken link, where the chain does not hold.

    Note the last hash somewhere else, and expect it the next time: only so a chain cannot be cut off, or made anew as a whole, unseen.
    """
    if expect is not None and not _HASH.fullmatch(expect):
        raise typer.BadParameter(f"{expect!r} is no hash: `verify` prints one of 64 hexadecimal digits")
    entries = _entries(data_dir, file)
    if file and not entries:
        raise Refused("empty-chain", f"{file} holds no link")
    count = audit.verify(entries)
    expected = f"; the expected one is link {audit.number_of(entries, expect)}" if expect else ""
    last = f", the last one {entries[-1].hash}" if entries else ""
    typer.echo(f"{count} links hold{last}{expected}")


@app.command("list")
def list_entries(data_dir: DataDir = None, file: File = None) -> None:
    """List the chain's links."""
    for entry in _entries(data_dir, file):
        typer.echo(f"{entry.number:5}  {entry.kind:20}  {entry.subject:38}  {entry.hash[:16]}")


@app.command()
def export(
    to: Annotated[Path, typer.Argument(help="The file to write: one JSON object per line.")], data_dir: DataDir = None
) -> None:
    """Write the chain to a file that can be verified elsewhere."""
    entries = _entries(data_dir, None)
    to.write_text("".join(entry.model_dump_json() + "\n" for entry in entries))
    typer.echo(f"{len(entries)} links written to {to}")


def _entries(data_dir: Path | None, file: Path | None) -> list[AuditAppended]:
    return list(_from_file(file)) if file else _from_topic(connected(data_dir))


def _from_topic(settings: Settings) -> list[AuditAppended]:
    """The topic's links by number; a relay that was killed may have sent one twice, which is the same link twice."""
    from tidemill.bus.control_client import read_all

    unique = {heard.event: None for heard in read_all(settings, [AuditAppended]) if isinstance(heard.event, AuditAppended)}
    return sorted(unique, key=lambda entry: entry.number)


def _from_file(file: Path) -> Iterable[AuditAppended]:
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        try:
            yield AuditAppended.model_validate(json.loads(line))
        except (ValueError, ValidationError) as error:
            raise Refused("bad-file", f"{file}, line {number}: {error}") from error
