"""From spans to the tree that a person reads, by parent and link ids alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

MOST_LINKING: Final = 8
"""Spans that link to one span are followed when they are few (a label's outcome); of many (a champion's predictions) only the number
is told."""

Key = tuple[str, str]
"""Trace id and span id, hex."""


@dataclass(frozen=True)
class Span:
    """One span, wherever it came from."""

    key: Key
    parent: str | None
    name: str
    service: str
    begin: int
    """ns since the epoch."""
    end: int
    attributes: dict[str, Any] = field(default_factory=dict, hash=False)
    links: tuple[Key, ...] = ()
    error: str = ""

    @property
    def batch(self) -> bool:
        """Whether it is about a batch: such spans surround the records' own, they are not on anyone's way."""
        return "messaging.batch.message_count" in self.attributes


@dataclass
class Node:
    """A span with what came of it."""

    span: Span
    how: str = ""
    """Why it is here when it is no child: `links to`, `linked from`."""
    children: list[Node] = field(default_factory=list)
    more: int = 0
    """Further spans that link to this one."""


class Forest:
    """All known spans, by their ids."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self._spans = {span.key: span for span in spans if not span.batch}
        self._children: dict[Key, list[Span]] = defaultdict(list)
        self._roots: dict[str, list[Span]] = defaultdict(list)
        self._linking: dict[Key, list[Span]] = defaultdict(list)
        for span in sorted(self._spans.values(), key=lambda span: (span.begin, span.end)):
            self._place(span)

    def find(self, wanted: Callable[[Span], bool]) -> list[Span]:
        """The spans that are wanted, oldest first."""
        return sorted(filter(wanted, self._spans.values()), key=lambda span: span.begin)

    def get(self, key: Key) -> Span | None:
        """The span of an id."""
        return self._spans.get(key)

    def trees(self, traces: Iterable[str]) -> list[Node]:
        """The trees of these traces; below a span that is linked with one of another trace the way to that."""
        first = set(traces)
        seen: set[str] = set()
        found: list[Node] = []
        for trace in sorted(first, key=lambda trace: (self._leads_into(trace, first), self._begin(trace))):
            if trace not in seen:
                seen.add(trace)
                found += [self._node(root, seen) for root in self._in_order(trace)]
        return found

    def _leads_into(self, trace: str, others: set[str]) -> bool:
        """Whether a span of the trace links into another of these: then it is better shown below that one."""
        return any(link[0] in others - {trace} for key, span in self._spans.items() if key[0] == trace for link in span.links)

    def _in_order(self, trace: str) -> list[Span]:
        """A trace's roots by time; of several at once those first that nothing came of."""
        return sorted(self._roots[trace], key=lambda root: (root.begin, bool(self._children[root.key])))

    def _begin(self, trace: str) -> int:
        return min((root.begin for root in self._roots[trace]), default=0)

    def _place(self, span: Span) -> None:
        trace = span.key[0]
        parent = (trace, span.parent or "")
        if parent in self._spans:
            self._children[parent].append(span)
        else:  # a root, or one whose parent was lost with a killed process
            self._roots[trace].append(span)
        for link in span.links:
            self._linking[link].append(span)

    def _node(self, span: Span, seen: set[str]) -> Node:
        node = Node(span, "", [self._node(child, seen) for child in self._children[span.key]])
        others = [link for link in span.links if link in self._spans and link[0] != span.key[0]]
        node.children += [self._way(self._spans[link], "links to") for link in others]
        linking = [other for other in self._linking[span.key] if other.key[0] != span.key[0] and other.key not in others]
        if len(linking) <= MOST_LINKING:
            node.children += [self._way(other, "linked from") for other in linking]
            others += [other.key for other in linking]
        else:
            node.more = len(linking)
        seen.update(trace for trace, _ in others)
        return node

    def _way(self, span: Span, how: str) -> Node:
        """A span of another trace with all that led to it, and without what else came of that."""
        node = Node(span)
        while (above := self._spans.get((span.key[0], span.parent or ""))) is not None:
            span, node = above, Node(above, children=[node])
        node.how = how
        return node


def from_otlp(span: dict[str, Any]) -> Span:
    """A span of an OTLP-JSON file (`telemetry.files.read_spans`)."""
    return Span(
        key=(span["traceId"], span["spanId"]),
        parent=span.get("parentSpanId"),
        name=span["name"],
        service=span["service"],
        begin=int(span["startTimeUnixNano"]),
        end=int(span["endTimeUnixNano"]),
        attributes={one["key"]: _value(one["value"]) for one in span["attributes"]},
        links=tuple((link["traceId"], link["spanId"]) for link in span["links"]),
        error=span["status"]["message"] if span["status"]["code"] == 2 else "",
    )


def _value(value: dict[str, Any]) -> Any:
    if "intValue" in value:
        return int(value["intValue"])
    return next(iter(value.values()), None)
