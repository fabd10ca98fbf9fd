"""A service's image installs what the service imports: its extra in pyproject.toml covers every import of every module it loads."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from tidemill.cli.main import COMMANDS
from tidemill.stack.services import SERVICES, Service

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
OURS = {"tidemill", "services"}
HEAVY = {"pandas", "sklearn"}
LOADED = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps({name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}))
"""


def installed(extra: str) -> set[str]:
    """The distributions that an extra asks for by name, and the base's, normalised."""
    asked = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"][extra]]
    found: set[str] = set()
    for requirement in asked:
        name, _, inner = requirement.partition("[")
        if name == PROJECT["name"]:
            for nested in inner.rstrip("]").split(","):
                found |= installed(nested)
        else:
            found.add(normalised(re.split(r"[\[<>=~ ]", requirement)[0]))
    return found


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imports(file: Path) -> Iterator[str]:
    """Top-level names that a module imports, at once or later; those for type checkers alone do not count."""
    tree = ast.parse(file.read_text())
    checked = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    skipped = {inner for node in checked for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def rooms(service: Service) -> list[str]:
    """Every module of a service: those of its child processes, and what it imports late, are among them."""
    home = REPOSITORY / service.module.replace(".", "/")
    files = set(home.rglob("*.py")) - {home / "__main__.py"}  # which would run it
    return sorted(".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__") for file in files)


def loaded(*modules: str) -> dict[str, str | None]:
    done = subprocess.run([sys.executable, "-c", LOADED, *modules], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    found: dict[str, str | None] = json.loads(done.stdout.splitlines()[-1])
    return found


def lacking(extra: str, modules: list[str]) -> set[str]:
    """What the modules, and ours that they load, import and the extra does not install."""
    files = [Path(file) for name, file in loaded(*modules).items() if file and name.split(".")[0] in OURS]
    needed = {name for file in files for name in imports(file)} - OURS - set(sys.stdlib_module_names)
    providers = metadata.packages_distributions()
    return {name for name in needed if not {normalised(p) for p in providers.get(name, ["?"])} & installed(extra)}


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_services_extra_covers_what_it_imports(service: Service) -> None:
    assert lacking(service.name, rooms(service)) == set()


def test_a_persons_extra_covers_what_the_commands_for_a_running_stack_import() -> None:
    modules = {module for name, (module, _) in COMMANDS.items() if name not in ("demo", "feed")}
    assert lacking("cli", ["tidemill.stack.state", *(f"tidemill.cli.{module}" for module in sorted(modules))]) == set()


@pytest.mark.parametrize("service", [s for s in SERVICES if s.name != "training"], ids=lambda service: service.name)
def test_only_training_loads_pandas_and_scikit_learn(service: Service) -> None:
    assert loaded(f"{service.module}.app").keys() & HEAVY == set()
