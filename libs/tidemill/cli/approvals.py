"""`tidemill approvals list | show | approve | reject | keygen | watch`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidemill.bus.control_client import Follower, Heard, Publisher, read_all
from tidemill.cli import tables
from tidemill.cli.http import get
from tidemill.cli.options import AsOutput, DataDir, Output, connected
from tidemill.errors import Refused
from tidemill.events.deadletters import DeadLetter
from tidemill.events.envelope import Envelope
from tidemill.events.governance import ApprovalDecided, ApprovalRequested, DecisionSubmitted, Verdict
from tidemill.settings import Settings
from tidemill.trust import dsse, keys, statement

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

Approval = Annotated[str, typer.Argument(help="The request's id; see `tidemill approvals list`.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; it stays in the audit log.")]
Key = Annotated[Path, typer.Option("--key", help="Your Ed25519 private key (PEM).")]
As = Annotated[str, typer.Option("--as", help="Your name: that of your pinned public key.")]


@app.command("list")
def list_approvals(
    state: Annotated[Literal["open", "approved", "rejected", "lapsed", "all"], typer.Option(help="Which requests.")] = "open",
    data_dir: DataDir = None,
    output: AsOutput = Output.text,
) -> None:
    """List approval requests."""
    found = get(connected(data_dir), "governance", "/v1/approvals", state=None if state == "all" else state)
    if output is Output.json:
        typer.echo(json.dumps(found, indent=2))
        return
    columns = ("approval", "stream", "model", "version", "state", "group", "deadline", "approvers")
    tables.show(columns, ([_cell(one, name) for name in columns] for one in found))


@app.command()
def show(approval: Approval, data_dir: DataDir = None, output: AsOutput = Output.text) -> None:
    """Show one request: its gates, and the statement that an approver signs."""
    found = get(connected(data_dir), "governance", f"/v1/approvals/{approval}")
    if output is Output.json:
        typer.echo(json.dumps(found, indent=2))
        return
    for name in (
        "approval",
        "model",
        "version",
        "state",
        "reason",
        "group",
        "required",
        "requester",
        "author",
        "artifact",
        "report",
        "run",
    ):
        typer.echo(f"{name:10} {found[name]}")
    for gate in found["gates"]:
        typer.echo(f"gate       {'passed' if gate['passed'] else 'FAILED'}  {gate['name']}: {gate['message']}")
    typer.echo(json.dumps(json.loads(found["statement"]), indent=2))


@app.command()
def approve(approval: Approval, reason: Reason, key: Key, name: As, data_dir: DataDir = None) -> None:
    """Sign the request and submit your approval."""
    _decide(connected(data_dir), approval, "approve", reason, key, name)


@app.command()
def reject(approval: Approval, reason: Reason, key: Key, name: As, data_dir: DataDir = None) -> None:
    """Sign the request and submit your rejection."""
    _decide(connected(data_dir), approval, "reject", reason, key, name)


@app.command()
def keygen(
    name: Annotated[str, typer.Argument(help="Your name.")],
    out: Annotated[Path, typer.Option(help="Folder for the private key; outside of any repository.")],
    group: Annotated[str, typer.Option(help="The group that will pin the public key.")],
    trust_dir: Annotated[Path | None, typer.Option(help="The pinned keys' folder. Default: the one that the services use.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Make a key pair; services trust it once the public key is pinned and they were started again."""
    keys.check_name(group, "group")
    pinned = trust_dir or Settings.load(data_dir).trust_dir
    secret, public = keys.generate(name, out, pinned / group)
    typer.echo(f"private key: {secret}\npublic key:  {public}")


@app.command()
def watch(
    reason: Reason,
    key: Key,
    name: As,
    group: Annotated[str, typer.Option(help="Your group.")],
    place: Annotated[int, typer.Option(min=1, help="Your place among its signers: sign only what needs so many.")] = 1,
    data_dir: DataDir = None,
) -> None:
    """Approve every request of a group as it comes, until stopped. For demonstrations: it reads nothing but the gates."""
    settings = connected(data_dir)
    private = keys.load_private(key)
    with Publisher(settings, "cli") as publisher:
        for heard, request in _requests(settings, group, place):
            submitted = _signed(request.approval, request.statement, "approve", reason, dsse_key=private, name=name)
            publisher.publish(submitted, cause=heard.envelope.id, traceparent=heard.envelope.traceparent)
            typer.echo(f"{name} signed version {request.version} of {request.model} ({request.approval})")


def _decide(settings: Settings, approval: str, verdict: Verdict, reason: str, key: Path, name: str) -> None:
    if not reason.strip():
        raise Refused("no-reason", "--reason must say why; it stays in the audit log")
    found = get(settings, "governance", f"/v1/approvals/{approval}")
    if found["state"] != "open":
        raise Refused("approval-closed", f"request {approval} is {found['state']} already: {found['reason']}")
    submitted = _signed(approval, found["statement"], verdict, reason, dsse_key=keys.load_private(key), name=name)
    with Follower(settings, [ApprovalDecided, DeadLetter], "now") as follower, Publisher(settings, "cli") as publisher:
        asked = _asked(settings, approval)
        publisher.publish(submitted, cause=asked.id or None, traceparent=asked.traceparent)
        typer.echo(_outcome(settings, follower, approval, name))


def _asked(settings: Settings, approval: str) -> Envelope:
    """The envelope of the request that a decision answers, so that cause and trace go on."""
    for heard in read_all(settings, [ApprovalRequested]):
        if isinstance(heard.event, ApprovalRequested) and heard.event.approval == approval:
            return heard.envelope
    return Envelope()


def _signed(
    approval: str, text: str, verdict: Verdict, reason: str, *, dsse_key: Ed25519PrivateKey, name: str
) -> DecisionSubmitted:
    said = statement.parse(text.encode()).decided(verdict, reason)
    envelope = dsse.sign(said.text().encode(), dsse_key, name)
    return DecisionSubmitted(approval=approval, approver=name, verdict=verdict, reason=reason, envelope=envelope)


def _outcome(settings: Settings, follower: Follower, approval: str, name: str, patience: float = 30.0) -> str:
    """What became of a submitted decision; Refused where governance did not take it."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        for heard in follower.poll(0.2):
            if isinstance(heard.event, ApprovalDecided) and heard.event.approval == approval:
                if heard.event.verdict == "lapsed":
                    raise Refused("lapsed", f"request {approval} has lapsed: {heard.event.reason}")
                return f"{heard.event.verdict} by {', '.join(heard.event.approvers)}"
            if isinstance(heard.event, DeadLetter) and approval in heard.event.message:
                raise Refused(heard.event.reason, heard.event.message)
        if name in get(settings, "governance", f"/v1/approvals/{approval}")["approvers"]:
            return "counted; the request waits for more approvers"
    raise Refused("no-answer", f"governance said nothing about {approval} for {patience:.0f} s; look at `tidemill logs governance`")


def _requests(settings: Settings, group: str, place: int) -> Iterator[tuple[Heard, ApprovalRequested]]:
    """Open requests of a group that need at least `place` approvers, those that are there first, each once."""
    done: set[str] = set()
    with Follower(settings, [ApprovalRequested, ApprovalDecided], "begin") as follower:
        while True:
            heard = follower.poll(0.5)
            done |= {one.event.approval for one in heard if isinstance(one.event, ApprovalDecided)}
            for one in heard:
                event = one.event
                if not isinstance(event, ApprovalRequested) or event.approval in done:
                    continue
                if event.group == group and event.required >= place:
                    done.add(event.approval)
                    yield one, event


def _cell(request: dict[str, Any], column: str) -> str:
    value = request[column]
    return _time(value) if column == "deadline" else ", ".join(value) if column == "approvers" else str(value)


def _time(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).strftime("%Y-%m-%d %H:%M")
