"""An expression gives each row the same value in polars and in DuckDB, alone and in a batch; nothing else can be written."""

import math
from functools import cache
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.spec import expressions
from tidemill.spec.expressions import BadExpression, Expression

COLUMNS: dict[str, Any] = {
    "a": ["null", "double"],
    "b": "double",
    "n": ["null", "int"],
    "late": ["null", "boolean"],
    "name": ["null", "string"],
    "kind": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]},
    "at": {"type": "long", "logicalType": "timestamp-micros"},
    "blob": "bytes",
}
SCHEMA = {
    "a": pl.Float64,
    "b": pl.Float64,
    "n": pl.Int32,
    "late": pl.Boolean,
    "name": pl.String,
    "kind": pl.String,
    "at": pl.Int64,
}

doubles = st.sampled_from([0.0, -0.0, 1.0, -1.5, 15.0, 1e308, 1e-308, math.inf, -math.inf, math.nan]) | st.floats()
texts = st.sampled_from(["", "A", "B", "a", "ß", "Zürich", "it's", "100%"]) | st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), max_size=5
)
rows = st.fixed_dictionaries(
    {
        "a": st.none() | doubles,
        "b": doubles,
        "n": st.none() | st.integers(-(2**31), 2**31 - 1),
        "late": st.none() | st.booleans(),
        "name": st.none() | texts,
        "kind": st.sampled_from("AB"),
        "at": st.integers(0, 2**51),
    }
)

numbers = st.deferred(lambda: st.sampled_from(["a", "b", "n", "at", "0", "1.5", "15", "2e3"]) | number_terms)
booleans = st.deferred(lambda: st.sampled_from(["late", "TRUE"]) | boolean_terms)
words = st.deferred(lambda: st.sampled_from(["name", "kind", "'A'", "'it''s'", "''"]) | word_terms)


def form(template: str, **parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.fixed_dictionaries(parts).map(lambda found: template.format(**found))


signs = st.sampled_from("+-*/")
compares = st.sampled_from(["=", "<>", "!=", "<", "<=", ">", ">="])
number_terms = st.one_of(
    form("({x} {sign} {y})", x=numbers, y=numbers, sign=signs),
    form("-({x})", x=numbers),
    form("{f}({x})", f=st.sampled_from(["ABS", "FLOOR", "CEIL"]), x=numbers),
    form("COALESCE({x}, {y})", x=numbers, y=numbers),
    form("CASE WHEN {c} THEN {x} WHEN {d} THEN {y} END", c=booleans, d=booleans, x=numbers, y=numbers),
    form("CASE WHEN {c} THEN {x} ELSE {y} END", c=booleans, x=numbers, y=numbers),
    form("CAST({c} AS DOUBLE)", c=booleans),
    form("LENGTH({t})", t=words),
)
boolean_terms = st.one_of(
    form("({x} {sign} {y})", x=numbers, y=numbers, sign=compares),
    form("({x} {sign} {y})", x=words, y=words, sign=compares),
    form("({x} {word} {y})", x=booleans, y=booleans, word=st.sampled_from(["AND", "OR"])),
    form("(NOT {x})", x=booleans),
    form("({x} IS NULL)", x=numbers),
    form("({x} IS NOT NULL)", x=words),
    form("({x} BETWEEN {y} AND {z})", x=numbers, y=numbers, z=numbers),
    form("({x} IN (1, -1.5, 15))", x=numbers),
    form("({x} NOT IN ('A', ''))", x=words),
    form("STARTS_WITH({x}, {y})", x=words, y=words),
)
word_terms = st.one_of(
    form("COALESCE({x}, {y})", x=words, y=words),
    form("CASE WHEN {c} THEN {x} ELSE {y} END", c=booleans, x=words, y=words),
)


def by_polars(expression: Expression, frame: pl.DataFrame) -> list[Any]:
    return frame.select(x=expression.polars)["x"].to_list()


@cache
def database() -> duckdb.DuckDBPyConnection:
    """An empty table for rows: to open a database takes longer than to ask it."""
    types = {pl.Float64: "DOUBLE", pl.Int32: "INTEGER", pl.Boolean: "BOOLEAN", pl.String: "VARCHAR", pl.Int64: "BIGINT"}
    declared = ", ".join(f'"{name}" {types[kind]}' for name, kind in SCHEMA.items())
    return duckdb.connect().execute(f"CREATE TABLE rows (i INTEGER, {declared})")


def by_duckdb(expression: Expression, rows: list[dict[str, Any]]) -> list[Any]:
    db, row = database(), f"({', '.join('?' * (len(SCHEMA) + 1))})"
    db.execute("DELETE FROM rows")
    db.execute(
        f"INSERT INTO rows VALUES {', '.join([row] * len(rows))}",
        [value for i, one in enumerate(rows) for value in (i, *(one[name] for name in SCHEMA))],
    )
    return [value for (value,) in db.execute(f"SELECT {expression.duckdb} FROM rows ORDER BY i").fetchall()]


def same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return type(left) is type(right) and left == right


@settings(deadline=None, max_examples=300)
@given(booleans | numbers | words, st.lists(rows, min_size=1, max_size=6))
def test_every_row_has_one_value_in_polars_and_duckdb_alone_and_in_a_batch(text: str, rows: list[dict[str, Any]]) -> None:
    try:
        expression = expressions.compile(text, COLUMNS)
    except BadExpression as error:
        assert "names no column" in error.message or error.message == "nested too deeply"
        return
    frame = pl.DataFrame(rows, schema=SCHEMA)
    batch = by_polars(expression, frame)
    alone = [value for i in range(len(rows)) for value in by_polars(expression, frame[i])]
    duck = by_duckdb(expression, rows)
    assert len(batch) == len(rows)
    assert all(map(same, batch, alone)), (batch, alone)
    assert all(map(same, batch, duck)), (expression.duckdb, batch, duck)


@pytest.mark.parametrize(
    "text",
    [
        "a - AVG(a) OVER ()",
        "AVG(a)",
        "SUM(a) > 3",
        "COUNT(*)",
        "ROW_NUMBER() OVER (ORDER BY a)",
        "LAG(a) OVER (ORDER BY b)",
        "a > now()",
        "CURRENT_TIMESTAMP > at",
        "CURRENT_DATE = name",
        "b < random()",
        "RAND() < b",
        "uuid() = name",
        "a IN (SELECT b FROM t)",
        "(SELECT 1)",
        "EXISTS (SELECT 1)",
        "a > ANY(SELECT 1)",
        "SELECT a",
        "DROP TABLE rows",
        "a; b",
        "a > 1; DROP TABLE rows",
        "t.a > 1",
        "*",
        "COLUMNS('x')",
        "a AS x",
        "a[1]",
        "?",
        "$1",
        "read_csv('x')",
        "getenv('HOME') = name",
        "nextval('s')",
        "a -- what",
        "a /* what */ > 1",
        "name ~ '.*'",
        "name LIKE '%'",
        "a % 2",
        "ROUND(a)",
        "CEIL(a, 2)",
        "LN(a)",
        "SQRT(a)",
        "NULLIF(a, 0)",
        "TRY_CAST(name AS DOUBLE)",
        "CAST(name AS DOUBLE)",
        "CAST(a AS INTEGER)",
        "a IN ()",
        "a IN (b)",
        "a IS TRUE",
        "NULL",
        "",
        "   ",
        "a >",
        "((a)",
        "1 > 0",
        "'x'",
        "a + name",
        "a = 'x'",
        "name > 1",
        "NOT a",
        "late + 1",
        "late AND a",
        "COALESCE(a, name)",
        "CASE WHEN a THEN 1 END",
        "CASE a WHEN 1 THEN 2 END",
        "blob = 'x'",
        "nobody > 1",
        "(" * 30 + "late" + ")" * 30,
        "(" * 5000 + "a" + ")" * 5000,
        "(" * 900 + "a" + ")" * 900,
        "-" * 1900 + "a",
    ],
)
def test_what_is_no_function_of_one_row_is_refused(text: str) -> None:
    with pytest.raises(BadExpression):
        expressions.compile(text, COLUMNS)


def test_a_mistyped_column_is_named_with_its_neighbour() -> None:
    with pytest.raises(BadExpression, match="unknown column 'arr_dealy'") as caught:
        expressions.compile("arr_dealy > 15", {"arr_delay": "double"})
    assert caught.value.fix == "did you mean 'arr_delay'?"


def test_an_expression_knows_its_kind_and_columns() -> None:
    expression = expressions.compile("a > 15 AND name = 'A'", COLUMNS)
    assert (expression.kind, expression.columns) == ("boolean", {"a", "name"})


def test_columns_of_any_name_can_be_quoted() -> None:
    expression = expressions.compile('"order" > 1', {"order": "int"})
    assert by_polars(expression, pl.DataFrame({"order": [1, 2]})) == [False, True]


def test_null_is_neither_true_nor_false() -> None:
    frame = pl.DataFrame([{"a": None, "late": None}], schema={"a": pl.Float64, "late": pl.Boolean})
    answers = {
        text: by_polars(expressions.compile(text, COLUMNS), frame)[0]
        for text in ("a > 15", "NOT late", "late OR TRUE", "a IS NULL")
    }
    assert answers == {"a > 15": None, "NOT late": None, "late OR TRUE": True, "a IS NULL": True}


def test_a_nested_expression_stays_as_long_as_its_text() -> None:
    text = "late"
    for _ in range(9):
        text = f"({text} IN (TRUE, FALSE))"
    expression = expressions.compile(text, COLUMNS)
    assert len(expression.duckdb) < 2 * len(text)
    assert by_polars(expression, pl.DataFrame({"late": [True, None]})) == [True, None]


def test_a_long_chain_is_no_deep_nest_and_compiles_on_a_deep_stack() -> None:
    text = " AND ".join(f"a > {i}" for i in range(80))

    def below(frames: int) -> Expression:
        return below(frames - 1) if frames else expressions.compile(text, COLUMNS)

    assert by_polars(below(300), pl.DataFrame({"a": [79.5, 78.5]})) == [True, False]
