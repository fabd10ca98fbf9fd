"""Trees of spans, as a test writes them down."""

from __future__ import annotations

from tidemill.telemetry.tree import Node


def shape(node: Node) -> object:
    """Its name, or its name and what stands below it."""
    name = f"{node.how}: {node.span.name}" if node.how else node.span.name
    return {name: [shape(child) for child in node.children]} if node.children else name
