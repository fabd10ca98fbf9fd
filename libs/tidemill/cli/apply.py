"""`tidemill apply FOLDER`: a use case's files become the stream's spec, as an event (R14)."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from tidemill.bus.control_client import Publisher, read_all
from tidemill.cli.options import AsOutput, DataDir, Output, connected
from tidemill.errors import Refused, Rejected
from tidemill.events import topics
from tidemill.events.compatibility import broken
from tidemill.events.folded import FOLD_TYPES
from tidemill.events.identity import event_id
from tidemill.events.plain import full_name
from tidemill.events.schema_registry import Registry
from tidemill.events.spec import Applied
from tidemill.features.vector import vector_schema
from tidemill.settings import Settings
from tidemill.spec import Bundle, load
from tidemill.spec.diff import Change, changes
from tidemill.stack.topics import ensure_topics
from tidemill.trust import keys


@dataclass(frozen=True)
class Plan:
    """What applying would do."""

    bundle: Bundle
    previous: Bundle | None
    cause: str
    """The id of the event by which `previous` was applied; empty for the first."""
    changes: list[Change]


def apply(
    folder: Annotated[Path, typer.Argument(help="The use case: stream.yaml, models/*.yaml and the schemas they name.")],
    author: Annotated[str, typer.Option(help="Who answers for the change. Default: you.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    data_dir: DataDir = None,
    output: AsOutput = Output.text,
) -> None:
    """Publish a use case's files as the stream's spec."""
    settings = connected(data_dir)
    plan = plan_of(load(folder), settings)
    if output is Output.text:
        _show(plan)
    author = author or getpass.getuser()
    for lacking in unsigned(plan.bundle, settings.trust_dir, author):
        typer.echo(f"warning: {lacking}", err=True)
    applied = None if dry_run else publish(plan, settings, author)
    if output is Output.json:
        typer.echo(json.dumps(_answer(plan, applied)))
    elif dry_run:
        typer.echo("dry run: nothing was changed")
    else:
        typer.echo(f"applied as {applied.digest}" if applied else "nothing to apply")


def plan_of(bundle: Bundle, settings: Settings) -> Plan:
    """What changes since the stream's last spec; raises Refused where that cannot be, Transient where the stack is away."""
    stream = bundle.stream.stream
    previous, cause = _newest(stream, settings)
    if previous and previous.stream.shards != bundle.stream.shards:
        raise Refused("fixed-shards", f"log.{stream} has {previous.stream.shards} shards for its life: apply under another name")
    registry = Registry(settings.schema_registry)
    for source, schema in bundle.schemas.items():
        if reasons := registry.compatible(full_name(schema), schema):
            before = previous.schemas.get(source) if previous else None
            reasons = broken(before, schema, "BACKWARD") or reasons if before else reasons
            raise Refused("incompatible-schema", f"{bundle.stream.sources[source].schema_}: {'; '.join(reasons)}")
    return Plan(bundle, previous, cause, changes(previous, bundle))


def _newest(stream: str, settings: Settings) -> tuple[Bundle | None, str]:
    """The stream's last spec, and the id of the event that said it."""
    found = [heard for heard in read_all(settings, [Applied]) if isinstance(heard.event, Applied) and heard.event.stream == stream]
    for heard in reversed(found):
        try:
            return Bundle.applied(stream, heard.event.content), heard.envelope.id  # type: ignore[attr-defined]
        except Rejected:
            continue  # nobody could read it: the one before is in force
    return None, ""


def unsigned(bundle: Bundle, trust_dir: Path, author: str) -> list[str]:
    """Whose versions nobody can approve, since too few keys of the group are pinned beside the author's."""
    found, files = [], keys.pinned(trust_dir)
    for name, model in bundle.models.items():
        for group in model.approval.approvers:
            others = {file.stem for file in files if file.parent.name == group} - {author}
            if len(others) < model.approval.required:
                found.append(
                    f"{name} asks {model.approval.required} of {group} to approve, and {trust_dir / group} pins {len(others)} keys "
                    f"beside the author's: its versions will wait for `tidemill approvals keygen NAME --group {group} --out FOLDER "
                    f"--trust-dir {trust_dir}` and the services' next start"
                )
    return found


def publish(plan: Plan, settings: Settings, author: str) -> Applied | None:
    """Make the topics, register the schemas, say `spec.applied`; None where all of that is already so."""
    stream = plan.bundle.stream
    wanted = topics.control_topics() + topics.stream_topics(stream.stream, list(stream.sources), stream.shards)
    ensure_topics(settings.kafka, wanted, settings.librdkafka)
    registry = Registry(settings.schema_registry)
    bundle = plan.bundle.model_copy(update={"ids": register(plan.bundle, registry), "author": author})
    if plan.previous and (plan.previous.digest, plan.previous.ids) == (bundle.digest, bundle.ids):
        return None
    event = Applied(
        stream=stream.stream,
        digest=bundle.digest,
        previous=plan.previous.digest if plan.previous else None,
        author=author,
        content=bundle.to_json(),
        applied_at=time.time_ns() // 1000,
    )
    with Publisher(settings, "cli", registry) as publisher:
        said = event_id(plan.cause, Applied.ce_type(), f"{stream.stream}/{bundle.digest}")
        publisher.publish(event, said, cause=plan.cause or None)
    return event


def register(bundle: Bundle, registry: Registry) -> dict[str, int]:
    """The ids of all schemas that folds meet: by source, `vector:<trigger>`, full name.

    A vector's fields follow the spec and its readers take the schema by id, so any change of it is allowed.
    """
    raw = {source: registry.register(full_name(schema), schema, "BACKWARD_TRANSITIVE") for source, schema in bundle.schemas.items()}
    vectors = {name: vector_schema(bundle, name) for name in bundle.stream.triggers}
    built = {f"vector:{name}": registry.register(full_name(schema), schema, "NONE") for name, schema in vectors.items()}
    return raw | built | {kind.full_name(): registry.id_of(kind) for kind in FOLD_TYPES}


def _show(plan: Plan) -> None:
    typer.echo(f"stream {plan.bundle.stream.stream}: {len(plan.changes)} changes" if plan.previous else "a new stream")
    for change in plan.changes:
        typer.echo(f"  {change}")
    if plan.previous and plan.previous.data_digest != plan.bundle.data_digest:
        typer.echo("  vectors or labels change: a training run does not mix rows from before and after")


def _answer(plan: Plan, applied: Applied | None) -> Mapping[str, Any]:
    return {
        "stream": plan.bundle.stream.stream,
        "digest": plan.bundle.digest,
        "previous": plan.previous.digest if plan.previous else None,
        "changes": [vars(change) for change in plan.changes],
        "applied": applied is not None,
    }
