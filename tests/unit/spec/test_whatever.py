"""Whatever stands in a use case's files: it is refused with a place and a fix, or it is what a service reads from the log."""

from __future__ import annotations

import json
import shutil
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tidemill.spec import Bundle, SpecErrors, load
from tidemill.spec.model import Bound

FLIGHTS = Path(__file__).parents[3] / "usecases" / "flights"
FILES = ("stream.yaml", "models/late-arrival.yaml")
TEXTS = {file: (FLIGHTS / file).read_text() for file in FILES}


class Place(NamedTuple):
    """A word of a file, key or value."""

    file: str
    begin: int
    end: int


def words(file: str) -> list[Place]:
    """Every word of a file, in order."""

    def inside(node: yaml.Node) -> list[Place]:
        if isinstance(node, yaml.ScalarNode):
            return [Place(file, node.start_mark.index, node.end_mark.index)]
        nodes = [one for pair in node.value for one in pair] if isinstance(node, yaml.MappingNode) else node.value
        return [place for one in nodes for place in inside(one)]

    return inside(yaml.compose(TEXTS[file]))


PLACES = [place for file in FILES for place in words(file)]
BOUNDS = [Place(FILES[1], begin, begin + len(word)) for word in ("0.05", "0.25", "1.3 x test", "0.15", "4 in 30d", "newest 7d")
          for begin in [TEXTS[FILES[1]].index(f" {word}") + 1]]  # fmt: skip

numbers = st.one_of(st.integers(-(10**20), 10**20), st.floats(), st.integers(0, 10**400)).map(str)
durations = st.builds("{}{}".format, st.integers(0, 10**10), st.sampled_from(["us", "ms", "s", "m", "h", "d", "w"]))
multiples = st.from_regex(r"(0|[1-9][0-9]{0,400})(\.[0-9]{1,40})?(e-?[0-9]{1,3})? x test", fullmatch=True)
phrases = st.one_of(
    multiples,
    st.builds("{} in {}".format, st.integers(0, 10**9), durations),
    durations.map("newest {}".format),
    st.integers(0, 120).map("newest {}%".format),
    st.integers(0, 10**7).map("top {} features".format),
)
odd = st.sampled_from(
    ["", "~", "true", "1e999", "!!int abc", "!!bool x", "!!float nan", "!!binary x", "!!set {a}", "? [a]", '"\\0"', '"\\ud800"', "<<",
     "[]", "{}", "[a, b]", "[1, 2]", "{a: b}", "{last: 7d}", "*a", "&a a", "0001-01-01T00:00:00+01:00", "a" * 300, "baseline"]
)  # fmt: skip
texts = st.text(max_size=20).map(json.dumps)
swapped = st.sampled_from(PLACES).map(lambda place: TEXTS[place.file][place.begin : place.end])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the flights use case."""
    return Path(shutil.copytree(FLIGHTS, tmp_path_factory.mktemp("any") / "case"))


@settings(max_examples=200)
@given(
    st.one_of(
        st.tuples(st.sampled_from(PLACES), st.one_of(numbers, durations, phrases, odd, texts, swapped)),
        st.tuples(st.sampled_from(BOUNDS), st.one_of(numbers, phrases)),
    )
)
def test_what_loads_is_read_by_every_service_and_what_does_not_is_told(folder: Path, change: tuple[Place, str]) -> None:
    (file, begin, end), value = change
    for other, text in TEXTS.items():
        (folder / other).write_text(text[:begin] + value + text[end:] if other == file else text)
    try:
        bundle = load(folder)
    except SpecErrors as errors:
        assert all(one.message and one.fix and one.line > 0 for one in errors.errors)
        assert str(errors).encode()
        return
    assert Bundle.from_json(bundle.to_json()) == bundle


@given(st.one_of(multiples, st.integers(), st.floats()))
@example("0.00001 x test")
@example("99999999999999999 x test")
@example(f"{'9' * 400} x test")
@example(10**400)
def test_a_bound_that_is_accepted_survives_its_text(value: str | float) -> None:
    try:
        bound = Bound.model_validate(value)
    except ValidationError:
        assert isinstance(value, str | int) or not isfinite(value)
        return
    assert Bound.model_validate_json(bound.model_dump_json()) == bound
