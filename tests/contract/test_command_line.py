"""What every command has in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from typer import Context
from typer.main import get_command

from tidemill.cli.main import COMMANDS, app


def commands(group: Any, *words: str) -> Iterator[tuple[str, Any]]:
    """(words, command) of all that can be called, groups' commands too."""
    context = Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if hasattr(command, "list_commands"):
            yield from commands(command, *words, name)
        else:
            yield " ".join((*words, name)), command


ALL = dict(commands(get_command(app)))


def test_every_command_of_the_table_is_walked_through() -> None:
    assert {words.split()[0] for words in ALL} == set(COMMANDS)
    assert {"approvals keygen", "audit verify", "models at", "dlq redrive"} < set(ALL)


@pytest.mark.parametrize("words", ALL)
def test_every_command_takes_the_data_directory(words: str) -> None:
    (found,) = (one for one in ALL[words].params if "--data-dir" in one.opts)
    assert not found.required
    assert found.help
