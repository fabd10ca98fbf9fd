"""`tidemill trace ID`: the way of an event, prediction, run, approval or switch through every service, as one tree."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from tidemill.bus.control_client import read_all
from tidemill.cli.options import AsOutput, DataDir, Output, connected
from tidemill.errors import Refused
from tidemill.events.deadletters import DeadLetter
from tidemill.settings import Settings
from tidemill.telemetry.decisions import Decisions, wanted
from tidemill.telemetry.files import read_spans
from tidemill.telemetry.rebuilt import Answer, Rebuilt
from tidemill.telemetry.tree import Forest, Node, Span, from_otlp

Id = Annotated[
    str, typer.Argument(metavar="ID", help="An event, prediction, run, approval, alert or order; or model:version, or a model.")
]
FromRecords = Annotated[bool, typer.Option("--records", help="Follow the records even where spans are at hand.")]
_SHOWN = (
    "event.id",
    "source",
    "position",
    "model",
    "version",
    "status",
    "score",
    "run",
    "cause_kind",
    "cause_detail",
    "approval",
    "alert",
    "order",
    "rollout",
    "report",
)
_NS = 1e9
_WIDE = 300


def trace(id: Id, data_dir: DataDir = None, output: AsOutput = Output.text, records: FromRecords = False) -> None:
    """Show one event's, run's or approval's way through every service.

    Spans are joined by parent and link ids. What left no spans is followed through the records of the running stack.
    """
    settings = _settings(data_dir)
    trees = trees_of(id, settings, records)
    if not (settings.kafka or whole(trees)):
        typer.echo("This is what spans tell, and may not be all of it: no stack runs here whose records could be read.", err=True)
    if output is Output.json:
        typer.echo(json.dumps([_plain(tree) for tree in trees], indent=2))
        return
    console = Console() if sys.stdout.isatty() else Console(width=_WIDE)
    for tree in trees:
        shown = Tree(_label(tree, tree.span.begin, {}))
        _grow(shown, tree, tree.span.begin)
        console.print(shown)


def trees_of(name: str, settings: Settings, records: bool = False) -> list[Node]:
    """What the id names, with all that led to it and came of it. Raises Refused `unknown-id`.

    Without a broker in the settings it is what spans tell.
    """
    spans = [] if records else [from_otlp(span) for span in read_spans(settings.data_dir)]
    forest = Forest(spans)
    found = [span.key[0] for span in forest.find(wanted(name))]
    trees = forest.trees(found)
    if whole(trees) or (found and not settings.kafka):
        return trees
    more, traces = _followed(name, settings, forest)
    if not traces and not found:
        raise _unknown(name, settings)
    return Forest(joined(spans, more)).trees([*traces, *found])


def _settings(data_dir: Path | None) -> Settings:
    """The settings; without a broker where no stack runs in the data directory."""
    try:
        return connected(data_dir)
    except Refused as error:
        if error.reason != "not-running":
            raise
        return Settings.given(data_dir).model_copy(update={"kafka": ""})


def _unknown(name: str, settings: Settings) -> Refused:
    """What to say of an id that is on no way: most often its event was refused."""
    said = [heard.event for heard in read_all(settings, [DeadLetter]) if isinstance(heard.event, DeadLetter)]
    for letter in reversed(said):
        if letter.key == name.encode():
            why = f"{name!r} came no further than {letter.topic}[{letter.partition}]:{letter.offset}: {letter.reason}, {letter.message}"
            return Refused("dead-letter", f"{why}; `tidemill dlq show {letter.id}` shows the record")
    return Refused("unknown-id", f"nothing here is called {name!r}: give the id of an event, run or approval, or model:version")


def whole(trees: list[Node]) -> bool:
    """Whether spans surely tell all of it: of an event they do when its prediction is there.

    Of the control plane's events any may be lacking, since a killed process and a full file lose spans.
    """
    names = defaultdict[str, set[str]](set)
    for tree in trees:
        names[tree.span.key[0]] |= {span.name for span in _own(tree)}
    answered = any(name.startswith("prediction") for own in names.values() for name in own)
    return answered and all("log" in own for own in names.values())


def joined(spans: Iterable[Span], told: list[Span]) -> list[Span]:
    """Spans, and those that records tell; a span whose parent was lost stands below what the records name."""
    known = {one.key: one for one in told} | {span.key: span for span in spans}
    for one in told:
        span = known[one.key]
        if (span.key[0], span.parent or "") not in known:
            known[one.key] = replace(span, parent=one.parent)
    return list(known.values())


def _followed(name: str, settings: Settings, forest: Forest) -> tuple[list[Span], list[str]]:
    """The spans of an id as its records tell them, and the traces that they begin with. Raises Refused where no servers are known."""
    if not settings.kafka:
        raise Refused(
            "not-running", f"no span here tells of {name!r}, and no stack runs in {settings.data_dir}; `tidemill up` starts one"
        )
    decisions = Decisions.read(settings)
    seeds = decisions.named(name) or _of_version(name, decisions)
    if seeds:
        return decisions.around(seeds), [decisions.key(seed)[0] for seed in seeds]
    rebuilt = Rebuilt(settings)
    try:
        spans, answers = rebuilt.event(name)
    finally:
        rebuilt.close()
    traces = [span.key[0] for span in spans[:1]]
    for answer in answers:
        spans += _led_to(answer, decisions, forest, spans)
    return spans, traces


def _of_version(name: str, decisions: Decisions) -> list[Any]:
    """The switch that `model:version`, or a model alone, means."""
    model, _, version = name.partition(":")
    number = int(version) if version.isdecimal() else decisions.newest_version(model)
    switch = decisions.switch(model, number) if number is not None else None
    return [switch] if switch else []


def _led_to(answer: Answer, decisions: Decisions, forest: Forest, spans: list[Span]) -> list[Span]:
    """Link a prediction to the switch that made its model champion; the switch's way, where no spans have it."""
    if answer.version is None:
        return []
    switch = decisions.switch(answer.model, answer.version, (answer.partition, answer.position))
    if switch is None:
        return []
    at = next(number for number, span in enumerate(spans) if span.key == answer.span.key)
    spans[at] = replace(answer.span, links=(decisions.key(switch),))
    return [] if forest.get(decisions.key(switch)) else decisions.around([switch])


def _own(node: Node) -> list[Span]:
    """The spans of its own trace."""
    return [node.span, *(span for child in node.children if not child.how for span in _own(child))]


def _grow(shown: Tree, node: Node, begin: int) -> None:
    for child in node.children:
        _grow(shown.add(_label(child, begin, {} if child.how else node.span.attributes)), child, begin)
    if node.more:
        shown.add(Text(f"{node.more:,} more spans link here", "dim"))


def _label(node: Node, begin: int, above: dict[str, Any]) -> Text:
    """A span in one line; of its attributes those that the span above it does not have."""
    span = node.span
    text = Text(f"{node.how} " if node.how else "", "dim italic")
    text.append(span.name, "bold")
    text.append(f"  {span.service}" if span.service else "", "cyan")
    text.append(f"  {_moment(span, begin, node.how)}  {_length(span.end - span.begin)}", "green")
    for name in _SHOWN:
        value = span.attributes.get(f"tidemill.{name}")
        if value not in (None, "", above.get(f"tidemill.{name}")):
            text.append(f"  {name}={_short(value)}", "dim")
    text.append(f"  {span.error}" if span.error else "", "bold red")
    return text


def _short(value: Any) -> str:
    """A value as a line has room for it: of a digest its beginning."""
    return f"{value:.4f}" if isinstance(value, float) else value[:19] if str(value).startswith("sha256:") else str(value)


def _moment(span: Span, begin: int, how: str) -> str:
    """When it began: a root by the wall clock, what follows by the time since."""
    if how or span.begin == begin:
        return datetime.fromtimestamp(span.begin / _NS, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    return f"{'+' if span.begin > begin else '-'}{_length(abs(span.begin - begin))}"


def _length(nanoseconds: int) -> str:
    """A duration as people say it."""
    seconds = nanoseconds / _NS
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds * 1e3:.1f} ms"


def _plain(node: Node) -> dict[str, Any]:
    span = node.span
    return {
        "name": span.name,
        "service": span.service,
        "how": node.how or "child",
        "trace": span.key[0],
        "span": span.key[1],
        "parent": span.parent,
        "links": [{"trace": trace, "span": one} for trace, one in span.links],
        "begin": _moment(span, span.begin, "") + "Z",
        "milliseconds": (span.end - span.begin) / 1e6,
        "attributes": span.attributes,
        "error": span.error or None,
        "more": node.more,
        "children": [_plain(child) for child in node.children],
    }
