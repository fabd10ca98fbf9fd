"""Row expressions (R18): a small SQL, parsed against an allow-list, compiled to polars and to DuckDB.

Allowed: columns, numbers, texts, TRUE and FALSE; + - * /; = <> < <= > >=; AND OR NOT; IS [NOT] NULL; [NOT] IN (literals);
[NOT] BETWEEN; CASE WHEN; COALESCE, ABS, FLOOR, CEIL, LENGTH, STARTS_WITH; CAST(boolean AS DOUBLE).
Nothing that looks at another row, at a clock or at chance can be written. The rules are SQL's (NULL is neither true nor
false), and: every number is a double, x / 0 is infinite, 0 / 0 is NaN, NaN equals itself and is the largest number.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

import polars as pl
import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError

from tidemill.errors import Refused
from tidemill.spec.columns import Column, Kind, column_of
from tidemill.spec.comparisons import COMPARISONS, Comparison, comparison_of, unsigned, value_of

LONGEST: Final = 2000
"""Characters."""
_LEVELS: Final = 100
_NESTED: Final = 20
"""So deep may operators and, among them, brackets be: what compiles here must compile in a service, whose stack is deeper."""


_ALLOWED: Final = (
    "use columns, numbers and texts with + - * /, comparisons, AND, OR, NOT, IN, BETWEEN, CASE, COALESCE, ABS and the like"
)
_TOO_DEEP: Final = ("nested too deeply", "write it with fewer brackets and operators")
_IN: Final = "write x IN ('a', 'b')"


class BadExpression(Refused):
    """The text is not an expression that every row can be asked; `fix` says what would be, where that is known."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__("bad-expression", message)
        self.fix = fix


@dataclass(frozen=True)
class Expression:
    """A compiled expression: the same value per row from polars and from DuckDB, in batches of any size."""

    text: str
    kind: Kind
    columns: frozenset[str]
    polars: pl.Expr
    duckdb: str
    comparison: Comparison | None
    """Where it is no more than that."""


@dataclass(frozen=True)
class _Part:
    kind: Kind
    polars: pl.Expr
    duckdb: str


_DTYPES: Final[dict[Kind, pl.DataType]] = {"number": pl.Float64(), "boolean": pl.Boolean(), "text": pl.String()}


def compile(text: str, columns: Mapping[str, Any]) -> Expression:  # noqa: A001
    """The expression of a text over columns (name -> Avro type, or Column); raises BadExpression."""
    if len(text) > LONGEST:
        raise BadExpression(f"longer than {LONGEST} characters", "write a shorter one")
    known = {name: kind if isinstance(kind, Column) else column_of(kind) for name, kind in columns.items()}
    compiler = _Compiler(known)
    try:
        tree = _parse(text)
        part = compiler.part(tree)
    except RecursionError as error:
        raise BadExpression(*_TOO_DEEP) from error
    if not compiler.used:
        raise BadExpression("names no column: it would be the same for every row", f"known: {', '.join(known)}")
    return Expression(text, part.kind, frozenset(compiler.used), part.polars, part.duckdb, comparison_of(tree))


def _parse(text: str) -> exp.Expr:
    try:
        trees = sqlglot.parse(text, dialect="duckdb")
    except ParseError as error:
        raise BadExpression(f"no SQL expression: {error.errors[0]['description']}", _ALLOWED) from error
    except SqlglotError as error:
        raise BadExpression(f"no SQL expression: {error}", _ALLOWED) from error
    if len(trees) != 1 or trees[0] is None:
        raise BadExpression("one expression is expected", _ALLOWED)
    return trees[0]


class _Compiler:
    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = columns
        self._levels = self._nested = 0
        self.used: set[str] = set()

    def part(self, node: exp.Expr) -> _Part:
        """The part of a node, by the rule of its kind."""
        rule = _RULES.get(type(node))
        if rule is None:
            shown = node.sql(dialect="duckdb")[:60]
            raise BadExpression(f"`{shown}` is not allowed: only functions of one row, without clock or chance", _ALLOWED)
        if node.comments:
            raise BadExpression("comments are not allowed inside of an expression", "write them in the file, after a #")
        nests = not isinstance(node, exp.Binary)
        self._levels, self._nested = self._levels + 1, self._nested + nests
        if self._levels > _LEVELS or self._nested > _NESTED:
            raise BadExpression(*_TOO_DEEP)
        part = rule(self, node)
        self._levels, self._nested = self._levels - 1, self._nested - nests
        return part

    def typed(self, node: exp.Expr, *kinds: Kind) -> _Part:
        """The part of a node, which must be of one of the kinds."""
        part = self.part(node)
        if part.kind not in kinds:
            raise BadExpression(
                f"`{node.sql(dialect='duckdb')}` is a {part.kind}, not a {' or '.join(kinds)}", f"write a {kinds[0]} there"
            )
        return part

    def alike(self, nodes: list[exp.Expr]) -> list[_Part]:
        """The parts of nodes that must all be of one kind."""
        first = self.part(nodes[0])
        return [first, *(self.typed(node, first.kind) for node in nodes[1:])]


Rule = Callable[[_Compiler, exp.Expr], _Part]


def _constant(value: float | str | bool | None, kind: Kind) -> pl.Expr:
    """A value for each row. Not pl.lit: polars 2.1 gives one row for `lit == x` where x is constant by WHEN."""
    return pl.repeat(value, pl.len(), dtype=_DTYPES[kind])


def _column(to: _Compiler, node: exp.Expr) -> _Part:
    name = node.name
    if len(list(node.find_all(exp.Identifier))) != 1 or not name:
        raise BadExpression(f"`{node.sql()}`: a column is one name", f"known: {', '.join(to._columns)}")
    column = to._columns.get(name)
    if column is None:
        near = get_close_matches(name, to._columns, 1)
        raise BadExpression(
            f"unknown column {name!r}", f"did you mean {near[0]!r}?" if near else f"known: {', '.join(to._columns)}"
        )
    if column.kind == "other":
        raise BadExpression(f"column {name!r} is no number, text or boolean", "choose another column")
    to.used.add(name)
    quoted = '"' + name.replace('"', '""') + '"'
    if column.kind == "number":
        return _Part("number", pl.col(name).cast(pl.Float64), f"CAST({quoted} AS DOUBLE)")
    return _Part(column.kind, pl.col(name).cast(pl.String if column.kind == "text" else pl.Boolean), quoted)


def _literal(to: _Compiler, node: exp.Expr) -> _Part:
    if node.args.get("is_string"):
        text = str(node.this)
        return _Part("text", _constant(text, "text"), "'" + text.replace("'", "''") + "'")
    try:
        number = float(str(node.this))
    except ValueError as error:
        raise BadExpression(f"{node.this!r} is no number", "write digits, as in 0.5") from error
    return _Part("number", _constant(number, "number"), f"CAST('{number!r}' AS DOUBLE)")


def _truth(to: _Compiler, node: exp.Expr) -> _Part:
    return _Part("boolean", _constant(bool(node.this), "boolean"), "TRUE" if node.this else "FALSE")


def _inner(to: _Compiler, node: exp.Expr) -> _Part:
    return to.part(node.this)


def _minus(to: _Compiler, node: exp.Expr) -> _Part:
    part = to.typed(node.this, "number")
    return _Part("number", -part.polars, f"(-{part.duckdb})")


def _not(to: _Compiler, node: exp.Expr) -> _Part:
    part = to.typed(node.this, "boolean")
    return _Part("boolean", ~part.polars, f"(NOT {part.duckdb})")


def _arithmetic(sign: str, apply: Callable[[Any, Any], Any]) -> Rule:
    def rule(to: _Compiler, node: exp.Expr) -> _Part:
        left, right = to.typed(node.this, "number"), to.typed(node.expression, "number")
        return _Part("number", apply(left.polars, right.polars), f"({left.duckdb} {sign} {right.duckdb})")

    return rule


def _comparison(sign: str, apply: Callable[[Any, Any], Any]) -> Rule:
    def rule(to: _Compiler, node: exp.Expr) -> _Part:
        left, right = to.alike([node.this, node.expression])
        return _Part("boolean", apply(left.polars, right.polars), f"({left.duckdb} {sign} {right.duckdb})")

    return rule


def _logic(word: str, apply: Callable[[Any, Any], Any]) -> Rule:
    def rule(to: _Compiler, node: exp.Expr) -> _Part:
        left, right = to.typed(node.this, "boolean"), to.typed(node.expression, "boolean")
        return _Part("boolean", apply(left.polars, right.polars), f"({left.duckdb} {word} {right.duckdb})")

    return rule


def _is_null(to: _Compiler, node: exp.Expr) -> _Part:
    if not isinstance(node.expression, exp.Null):
        raise BadExpression("IS is for NULL only", "write `x IS NULL`, or `x = ...`")
    part = to.part(node.this)
    return _Part("boolean", part.polars.is_null(), f"({part.duckdb} IS NULL)")


def _in(to: _Compiler, node: exp.Expr) -> _Part:
    if node.args.get("query") or node.args.get("unnest") or node.args.get("field"):
        raise BadExpression("IN needs a list of values", _IN)
    choices = list(node.expressions)
    if not choices or not all(isinstance(unsigned(choice), exp.Literal | exp.Boolean) for choice in choices):
        raise BadExpression("IN needs a list of plain values", _IN)
    value, *parts = to.alike([node.this, *choices])
    values = [value_of(choice) for choice in choices]
    return _Part(
        "boolean",
        value.polars.is_in(pl.Series(values, dtype=_DTYPES[value.kind]).implode()),
        f"({value.duckdb} IN ({', '.join(part.duckdb for part in parts)}))",
    )


def _between(to: _Compiler, node: exp.Expr) -> _Part:
    value, low, high = to.alike([node.this, node.args["low"], node.args["high"]])
    return _Part(
        "boolean",
        value.polars.is_between(low.polars, high.polars),
        f"({value.duckdb} BETWEEN {low.duckdb} AND {high.duckdb})",
    )


def _case(to: _Compiler, node: exp.Expr) -> _Part:
    if node.this is not None:
        raise BadExpression("CASE has a condition in each WHEN", "write CASE WHEN condition THEN value ... END")
    arms = list(node.args["ifs"])
    default = node.args.get("default")
    values = to.alike([arm.args["true"] for arm in arms] + ([default] if default is not None else []))
    kind = values[0].kind
    last = values[len(arms)] if default is not None else None
    polars = last.polars if last else _constant(None, kind)
    duckdb = last.duckdb if last else "NULL"
    whens: list[str] = []
    conditions = [to.typed(arm.this, "boolean") for arm in arms]
    for condition, value in zip(reversed(conditions), reversed(values[: len(arms)]), strict=True):
        polars = pl.when(condition.polars).then(value.polars).otherwise(polars)
        whens.insert(0, f"WHEN {condition.duckdb} THEN {value.duckdb}")
    return _Part(kind, polars, f"(CASE {' '.join(whens)} ELSE {duckdb} END)")


def _coalesce(to: _Compiler, node: exp.Expr) -> _Part:
    parts = to.alike([node.this, *node.expressions])
    return _Part(
        parts[0].kind,
        pl.coalesce([part.polars for part in parts]),
        f"COALESCE({', '.join(part.duckdb for part in parts)})",
    )


def _number_function(name: str, apply: Callable[[Any], Any]) -> Rule:
    def rule(to: _Compiler, node: exp.Expr) -> _Part:
        extra = {key for key, value in node.args.items() if value} - {"this"}
        if extra:
            raise BadExpression(f"{name} takes one number", f"write {name}(x)")
        part = to.typed(node.this, "number")
        return _Part("number", apply(part.polars), f"{name}({part.duckdb})")

    return rule


def _length(to: _Compiler, node: exp.Expr) -> _Part:
    part = to.typed(node.this, "text")
    return _Part("number", part.polars.str.len_chars().cast(pl.Float64), f"CAST(LENGTH({part.duckdb}) AS DOUBLE)")


def _starts_with(to: _Compiler, node: exp.Expr) -> _Part:
    text, prefix = to.typed(node.this, "text"), to.typed(node.expression, "text")
    return _Part("boolean", text.polars.str.starts_with(prefix.polars), f"STARTS_WITH({text.duckdb}, {prefix.duckdb})")


def _cast(to: _Compiler, node: exp.Expr) -> _Part:
    if node.args["to"].sql(dialect="duckdb") != "DOUBLE":
        raise BadExpression("only a boolean or a number is cast, to DOUBLE", "write CAST(x AS DOUBLE)")
    part = to.typed(node.this, "boolean", "number")
    return _Part("number", part.polars.cast(pl.Float64), f"CAST({part.duckdb} AS DOUBLE)")


_RULES: Final[dict[type[exp.Expr], Rule]] = {
    exp.Column: _column,
    exp.Literal: _literal,
    exp.Boolean: _truth,
    exp.Paren: _inner,
    exp.Neg: _minus,
    exp.Not: _not,
    exp.Add: _arithmetic("+", operator.add),
    exp.Sub: _arithmetic("-", operator.sub),
    exp.Mul: _arithmetic("*", operator.mul),
    exp.Div: _arithmetic("/", operator.truediv),
    **{kind: _comparison(sign, apply) for kind, (sign, apply) in COMPARISONS.items()},
    exp.And: _logic("AND", operator.and_),
    exp.Or: _logic("OR", operator.or_),
    exp.Is: _is_null,
    exp.In: _in,
    exp.Between: _between,
    exp.Case: _case,
    exp.Coalesce: _coalesce,
    exp.Abs: _number_function("ABS", lambda x: x.abs()),
    exp.Floor: _number_function("FLOOR", lambda x: x.floor()),
    exp.Ceil: _number_function("CEIL", lambda x: x.ceil()),
    exp.Length: _length,
    exp.StartsWith: _starts_with,
    exp.Cast: _cast,
}
