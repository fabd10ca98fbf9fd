"""The state of the fold, and how feature records are known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tidemill.events.fixed import dtype_of
from tidemill.models.rollout import Roster
from tidemill.models.scorer import Scorer

VECTOR, FAILED = "Vector", "Failed"


@dataclass(frozen=True)
class Kind:
    """What a schema id in `features.<stream>` stands for."""

    name: str
    """The record's full name."""
    dtype: np.dtype[np.void] | None
    """Of vectors and failed positions."""

    @classmethod
    def of(cls, schema: dict[str, Any]) -> Kind:
        """The kind of a record's schema."""
        fixed = schema["name"] in (VECTOR, FAILED)
        return cls(f"{schema.get('namespace', '')}.{schema['name']}", dtype_of(schema) if fixed else None)

    @property
    def record(self) -> str:
        """The record's name without its namespace."""
        return self.name.rpartition(".")[2]

    @property
    def trigger(self) -> str:
        """Of a vector: the trigger, as its namespace writes it."""
        return self.name.split(".")[-2]


@dataclass
class State:
    """One shard's state: who serves, and the next numbers of both outputs."""

    roster: Roster
    seqs: dict[str, int] = field(default_factory=lambda: {"predictions": 0, "shadows": 0})
    scorers: dict[str, Scorer] = field(default_factory=dict)
    """By artifact, of the versions that may score in the batch at hand: all that the shard keeps of models."""
