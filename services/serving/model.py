"""The state of the fold."""

from __future__ import annotations

from dataclasses import dataclass, field

from tidemill.models.rollout import Roster
from tidemill.models.scorer import Scorer


@dataclass
class State:
    """One shard's state: who serves, and the next numbers of both outputs."""

    roster: Roster
    seqs: dict[str, int] = field(default_factory=lambda: {"predictions": 0, "shadows": 0})
    scorers: dict[str, Scorer] = field(default_factory=dict)
    """By artifact, of the versions that may score in the batch at hand: all that the shard keeps of models."""
