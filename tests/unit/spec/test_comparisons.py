"""Which expressions are a number column compared with a number, and that these say what polars says."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.spec.comparisons import Comparison
from tidemill.spec.expressions import compile as expression

COLUMNS = {"x": "double", "n": ["null", "long"], "who": "string", "loud": "boolean"}
PLAIN = {
    "x > 15": Comparison("x", operator.gt, 15.0),
    "n <> -1.5": Comparison("n", operator.ne, -1.5),
    '"x" <= 0': Comparison("x", operator.le, 0.0),
    "x = 1e3": Comparison("x", operator.eq, 1000.0),
    "x < n": None,
    "15 < x": None,
    "x + 1 > 2": None,
    "NOT x > 1": None,
    "x > 1 AND x < 3": None,
    "who = 'a'": None,
    "loud = TRUE": None,
    "loud": None,
}


@pytest.mark.parametrize(("text", "wanted"), PLAIN.items())
def test_a_plain_comparison_is_known(text: str, wanted: Any) -> None:
    assert expression(text, COLUMNS).comparison == wanted


@pytest.mark.parametrize("sign", ["=", "<>", "<", "<=", ">", ">="])
def test_it_says_what_polars_says_of_all_but_nan(sign: str) -> None:
    compiled = expression(f"x {sign} 0", COLUMNS)
    plain = compiled.comparison
    assert plain is not None

    @given(st.lists(st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0])))
    def check(values: list[float]) -> None:
        found = pl.DataFrame({"x": values}, schema={"x": pl.Float64}).select(compiled.polars.alias("x"))["x"]
        assert plain.apply(np.array(values), plain.number).tolist() == found.to_list()

    check()
