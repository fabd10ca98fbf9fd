"""How records of `features.<stream>` are known by their schema, and which models they ask. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tidemill.events.fixed import dtype_of
from tidemill.spec.model import ModelSpec

_FIXED = ("Vector", "Failed", "Outcome", "Unlabelled")


@dataclass(frozen=True)
class Kind:
    """What a schema id stands for."""

    name: str
    """The record's full name."""
    dtype: np.dtype[np.void] | None
    """Of vectors, failed positions and outcomes; None for control records."""

    @classmethod
    def of(cls, schema: dict[str, Any]) -> Kind:
        """The kind of a record's schema."""
        return cls(f"{schema.get('namespace', '')}.{schema['name']}", dtype_of(schema) if schema["name"] in _FIXED else None)

    @property
    def record(self) -> str:
        """The record's name without its namespace."""
        return self.name.rpartition(".")[2]

    @property
    def vector(self) -> bool:
        """Whether it is a vector."""
        return self.record == "Vector"

    def asks(self, model: ModelSpec) -> bool:
        """Whether a model answers such a record: its trigger's vectors, and every failed position, which does not say of which trigger it is."""
        return self.record == "Failed" or (self.vector and self.name.split(".")[-2] == model.trigger_name.replace("-", "_"))
