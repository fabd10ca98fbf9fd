"""What all generated event types have in common."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Event(BaseModel):
    """One fact: immutable, and nothing in it that its schema does not name."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    TOPIC: ClassVar[str | None]
    """The one topic of this fact; None where a stream's or a source's name is part of the topic."""
    SCHEMA: ClassVar[dict[str, Any]]
    """The Avro schema."""
    KEY: ClassVar[str]
    """The field that is the Kafka key; empty where the key is not a field of the payload."""

    @classmethod
    def full_name(cls) -> str:
        """Namespace and name of the record, which is its subject in the registry."""
        return f"{cls.SCHEMA['namespace']}.{cls.SCHEMA['name']}"

    @classmethod
    def ce_type(cls) -> str:
        """`ce_type`: `training.run-completed.v1`."""
        return cls.TOPIC or kind_of(cls.SCHEMA)

    def kafka_key(self) -> bytes | None:
        """The record's key, or None where the type names no field for it."""
        return str(getattr(self, self.KEY)).encode() if self.KEY else None


class Part(BaseModel):
    """A record inside of an event."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def kind_of(schema: dict[str, Any]) -> str:
    """`<domain>.<fact>.v1` from a schema's names."""
    domain = schema["namespace"].rpartition(".")[2]
    fact = "".join(f"-{c.lower()}" if c.isupper() else c for c in schema["name"]).lstrip("-")
    return f"{domain}.{fact}.v1"
