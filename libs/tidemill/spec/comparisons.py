"""A number column compared with a number: of expressions the plainest, which needs no frame."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlglot import exp

COMPARISONS: Final[dict[type[exp.Expr], tuple[str, Callable[[Any, Any], Any]]]] = {
    exp.EQ: ("=", operator.eq),
    exp.NEQ: ("<>", operator.ne),
    exp.LT: ("<", operator.lt),
    exp.LTE: ("<=", operator.le),
    exp.GT: (">", operator.gt),
    exp.GTE: (">=", operator.ge),
}


@dataclass(frozen=True)
class Comparison:
    """`column > number`: `apply(column, number)` of values none of which is null or NaN, which here is the largest number."""

    column: str
    apply: Callable[[Any, Any], Any]
    number: float


def comparison_of(tree: exp.Expr) -> Comparison | None:
    """The comparison that an expression which compiles is, if it is one."""
    if type(tree) not in COMPARISONS or not isinstance(tree.this, exp.Column) or not _is_number(tree.expression):
        return None
    _, apply = COMPARISONS[type(tree)]
    return Comparison(tree.this.name, apply, float(value_of(tree.expression)))


def _is_number(node: exp.Expr) -> bool:
    """Whether it is a plain number, perhaps with a minus."""
    found = unsigned(node)
    return isinstance(found, exp.Literal) and not found.args.get("is_string")


def value_of(literal: exp.Expr) -> float | str | bool:
    """A literal's value."""
    if isinstance(literal, exp.Neg):
        return -float(str(literal.this.this))
    if isinstance(literal, exp.Boolean):
        return bool(literal.this)
    return str(literal.this) if literal.args.get("is_string") else float(str(literal.this))


def unsigned(node: exp.Expr) -> exp.Expr:
    """Without its minus."""
    found: exp.Expr = node.this if isinstance(node, exp.Neg) else node
    return found
