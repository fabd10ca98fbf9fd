"""`tidemill up | down | status | logs`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from tidemill.cli import tables
from tidemill.cli.options import AsOutput, CheckedDataDir, DataDir, Output
from tidemill.errors import Refused
from tidemill.settings import Settings
from tidemill.stack.services import BY_NAME, SERVICES, Service
from tidemill.stack.state import Running, RunsAlready, State

_LOGS = ("kafka", "postgres", "schema-registry", "supervisor", *BY_NAME)


def fetch(data_dir: CheckedDataDir = None) -> None:
    """Fetch Kafka and the schema registry into the user's cache, for all installations; nothing needs a network afterwards."""
    Settings.given(data_dir)
    _fetch(Console(stderr=True))


def up(
    data_dir: DataDir = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return when everything is ready.")] = False,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="Keep nothing: a temporary data directory, removed at the end.")
    ] = False,
    only: Annotated[str | None, typer.Option(help="Only these services, comma separated.")] = None,
    no_services: Annotated[bool, typer.Option("--no-services", help="Only Kafka, the schema registry and PostgreSQL.")] = False,
) -> None:
    """Start the stack; Ctrl-C ends it."""
    console = Console(stderr=True)
    _fetch(console)
    wanted = [] if no_services else _wanted(only)
    if ephemeral and (detach or data_dir):
        raise typer.BadParameter("--ephemeral makes its own data directory and ends with this command")
    if ephemeral:
        _up_ephemeral(console, wanted)
    elif detach:
        _up_detached(Settings.given(data_dir).data_dir, wanted)
    else:
        _supervise(Settings.given(data_dir), wanted, console)


def down(data_dir: DataDir = None) -> None:
    """End every process of the stack; the data stays."""
    from tidemill.stack.supervisor import end_processes

    state = State.read(Settings.given(data_dir).data_dir)
    if state is None or not state.all_living():
        typer.echo("nothing runs")
        return
    begun = time.monotonic()
    end_processes(state)
    typer.echo(f"ended after {time.monotonic() - begun:.1f} s")


def status(data_dir: DataDir = None, output: AsOutput = Output.text) -> None:
    """Show addresses, and each service's state, pid, lag and URL. Exit code 1 when no stack runs."""
    written = State.read(Settings.given(data_dir).data_dir)
    state = written if written and written.runs else None
    services = {name: _service(running) for name, running in state.services.items()} if state else {}
    if output is Output.json:
        said = {name: getattr(state, name, None) for name in ("kafka", "schema_registry", "postgres", "phase")}
        typer.echo(json.dumps(said | {"services": services}, indent=2))
    elif state:
        _print_status(state, services)
    if state is None:
        typer.echo("no stack runs here; `tidemill up` starts one", err=True)
        raise typer.Exit(1)


def logs(
    part: Annotated[str, typer.Argument(help=f"One of {', '.join(_LOGS)}.")],
    data_dir: DataDir = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many lines from the end.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
) -> None:
    """Show the end of a part's log."""
    file = Settings.given(data_dir).data_dir / "logs" / f"{part}.log"
    if not file.exists():
        raise Refused("no-log", f"{part!r} has no log in {file.parent}; logs are there of {', '.join(_LOGS)}")
    with file.open(errors="replace") as log:
        typer.echo("".join(deque(log, lines)), nl=False)
        while follow:
            typer.echo(log.read(), nl=False)
            time.sleep(0.2)


def _wanted(only: str | None) -> list[Service]:
    names = [name.strip() for name in only.split(",") if name.strip()] if only else [service.name for service in SERVICES]
    unknown = [name for name in names if name not in BY_NAME]
    if unknown:
        raise Refused("unknown-service", f"{', '.join(unknown)}: services are {', '.join(BY_NAME)}")
    return [BY_NAME[name] for name in names]


def _supervise(settings: Settings, wanted: list[Service], console: Console) -> None:
    from tidemill.stack.supervisor import Stack

    Stack(settings, wanted, lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True)).run()


def _up_ephemeral(console: Console, wanted: list[Service]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="tidemill-"))
    folder.chmod(0o755)  # PostgreSQL's user must reach its cluster in it
    console.print(f"data directory: {folder}")
    try:
        _supervise(Settings.given(folder), wanted, console)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _up_detached(data_dir: Path, wanted: list[Service]) -> None:
    """Start the supervisor as a process of its own, and tell what it tells until all is ready; Ctrl-C before that ends it."""
    state, log = State.read(data_dir), data_dir / "logs" / "supervisor.log"
    if state is not None and state.runs:
        raise RunsAlready(data_dir)
    log.parent.mkdir(parents=True, exist_ok=True)
    services = ["--only", ",".join(service.name for service in wanted)] if wanted else ["--no-services"]
    command = [sys.executable, "-m", "tidemill.cli.main", "up", "--data-dir", str(data_dir), *services]
    with log.open("ab") as out:
        begin = out.tell()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    with log.open() as said:
        said.seek(begin)
        try:
            while process.poll() is None and not _is_ready(data_dir, process.pid):
                typer.echo(said.read(), nl=False, err=True)
                time.sleep(0.1)
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
        typer.echo(said.read(), nl=False, err=True)
    if process.poll() is not None:
        raise Refused("not-started", f"the stack did not start; see {log}")


def _is_ready(data_dir: Path, pid: int) -> bool:
    state = State.read(data_dir)
    return state is not None and state.supervisor.pid == pid and state.phase == "ready"


def _service(running: Running) -> dict[str, Any]:
    """State, pid, lag and URL of one service, and the switches that it ignored, as it says itself."""
    said = {
        "state": "stopped" if running.stopped else "down",
        "pid": running.pid,
        "lag": None,
        "url": running.url,
        "restarts": running.restarts,
    }
    if running.process() is None:
        return said | {"switches_ignored": {}}
    return said | _readiness(running) | {"switches_ignored": _switches_ignored(running)}


def _readiness(running: Running) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"{running.url}/health/ready", timeout=3) as answer:  # noqa: S310 - our own loopback address
            return _of_itself(answer)
    except urllib.error.HTTPError as error:
        with error:
            return {"state": "not ready"} | _of_itself(error)
    except (urllib.error.URLError, OSError):
        return {"state": "starting"}


def _of_itself(answer: IO[bytes]) -> dict[str, Any]:
    """State and lag, where a service's answer has them."""
    try:
        return {key: value for key, value in json.load(answer).items() if key in ("state", "lag")}
    except ValueError:
        return {}


def _switches_ignored(running: Running) -> dict[str, dict[str, int]]:
    """How many since the service started, by stream and reason; empty where it does not say."""
    from prometheus_client.parser import text_string_to_metric_families

    from tidemill.bus.metrics import SWITCHES_IGNORED

    try:
        with urllib.request.urlopen(f"{running.url}/metrics", timeout=3) as answer:  # noqa: S310 - our own loopback address
            families = list(text_string_to_metric_families(answer.read().decode()))
    except (OSError, ValueError):
        return {}
    (name,) = (family.name for family in SWITCHES_IGNORED.describe())
    found: dict[str, dict[str, int]] = {}
    for sample in (sample for family in families if family.name == name for sample in family.samples):
        found.setdefault(sample.labels["stream"], {})[sample.labels["reason"]] = int(sample.value)
    return found


def _print_status(state: State, services: dict[str, dict[str, Any]]) -> None:
    console = Console()
    for name, value in (("kafka", state.kafka), ("schema registry", state.schema_registry), ("phase", state.phase)):
        console.print(f"{name:16} {value}")
    keys = ("state", "pid", "lag", "url")
    tables.show(("service", *keys), ([name, *(service[key] for key in keys)] for name, service in services.items()), console)
    for name, service in services.items():
        if service["state"] == "stopped":
            typer.echo(f"{name} has stopped until somebody looks: `tidemill logs {name}` says why, and how to go on")
        for stream, reasons in service["switches_ignored"].items():
            counts = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
            typer.echo(f"{name} ignored switches in the log of {stream} that do not hold: {counts}; see `tidemill logs {name}`")


def _fetch(console: Console) -> None:
    from tidemill.stack import artifacts

    if not artifacts.missing():
        return
    columns = (TextColumn("{task.description:44}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, transient=True) as progress:

        @contextmanager
        def tell(name: str, size: int) -> Iterator[Callable[[int], None]]:
            task = progress.add_task(name, total=size)
            yield lambda count: progress.advance(task, count)
            progress.remove_task(task)

        artifacts.fetch(tell)
    console.print("Kafka and the schema registry are fetched and verified")
