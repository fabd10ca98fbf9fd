"""The contracts of `schemas/` on the servers, before any service starts: the topics that exist once, and every schema.

Schemas are registered in one order, so that a record's bytes, which begin with its schema's id, do not depend on who came first.
"""

from __future__ import annotations

import json

from tidemill.events.paths import schemas_dir
from tidemill.events.schema_registry import Registry
from tidemill.events.topics import compatibility_of, control_topics
from tidemill.settings import Settings
from tidemill.stack.topics import ensure_topics


def ensure_contracts(settings: Settings) -> None:
    """Create and register what is not there. Raises Refused where a subject's rule forbids a schema, Transient where a server is away."""
    ensure_topics(settings.kafka, control_topics(), settings.librdkafka)
    registry = Registry(settings.schema_registry)
    for file in sorted(schemas_dir().rglob("*.avsc")):
        schema = json.loads(file.read_text())
        name = f"{schema['namespace']}.{schema['name']}"
        registry.register(name, schema, compatibility_of(name))


def main() -> None:
    """For a stack that `tidemill up` did not start."""
    ensure_contracts(Settings.load())


if __name__ == "__main__":
    main()
