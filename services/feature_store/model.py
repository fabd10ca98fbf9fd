"""The state of the fold, and what it is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from tidemill.features.labels import Join
from tidemill.features.plan import Plan
from tidemill.features.tables import Table


@dataclass
class State:
    """One shard's state. Without a plan (before the first spec) only control records pass."""

    stream: str
    code: int = 0
    """The mark of the fold's code."""
    seq: int = 0
    """The number of the next record in the output partition."""
    plan: Plan | None = None
    content: str = ""
    """The bundle's text, which the plan was compiled from."""
    tables: list[Table] = field(default_factory=list)
    joins: list[Join] = field(default_factory=list)

    def adopt(self, plan: Plan, content: str) -> None:
        """Follow another spec: views that did not change keep their state, others begin empty; who waits for a model's label goes on."""
        tables = {table.plan.identity: table for table in self.tables}
        joins = {join.plan.model: join for join in self.joins}
        self.tables = [tables[one.identity].under(one) if one.identity in tables else Table.empty(one) for one in plan.tables]
        self.joins = [joins[one.model].under(one) if one.model in joins else Join.empty(one) for one in plan.labels]
        self.plan, self.content = plan, content
