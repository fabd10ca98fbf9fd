"""A spec as the step needs it: per source the columns that matter, its rules compiled, its schemas by id."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from tidemill.events.columnar import BadSchema, Decoder
from tidemill.events.feed import Progressed
from tidemill.events.identity import hash64
from tidemill.events.plain import NO_SCHEMA, full_name
from tidemill.spec import Bundle, expressions
from tidemill.spec.columns import Column, columns_of
from tidemill.spec.stream import SourceSpec

PROMISE: Final = "promise"
"""What a raw topic carries beside events: feed.Progressed."""


@dataclass(frozen=True)
class Rule:
    """A declared check."""

    test: expressions.Expression
    reject: bool


@dataclass
class Source:
    """One source of the stream."""

    name: str
    index: int
    """In the spec's order."""
    salt: int
    """Makes the hash of an id the hash of (source, id)."""
    spec: SourceSpec
    schema: dict[str, Any]
    rules: tuple[Rule, ...]
    finite: dict[str, bool]
    """Columns whose number may be neither NaN nor infinite, and whether it may be missing."""
    tests: list[pl.Expr] = field(default_factory=list)
    """The rules as columns 0, 1, ... that are false where an event fails; null passes."""
    readers: dict[int, Decoder | str] = field(default_factory=dict)
    """By schema id: how to decode it, PROMISE, or why it cannot be taken."""
    unknown: set[int] = field(default_factory=set)
    """Those of them that the registry did not know."""

    @property
    def record(self) -> str:
        """The full name that its events' schema must have."""
        return full_name(self.schema)

    def learn(self, schema_id: int, schema: dict[str, Any] | None) -> None:
        """Take down what the registry knows of an id that the source's records bear; None: it knows nothing."""
        self.readers[schema_id] = self._reader(schema_id, schema)

    def forget_unknown(self) -> None:
        """An id that the registry does not know today may be a schema tomorrow."""
        self.readers = {found: reader for found, reader in self.readers.items() if found not in self.unknown}
        self.unknown.clear()

    def _reader(self, schema_id: int, schema: dict[str, Any] | None) -> Decoder | str:
        if schema is None:
            self.unknown.add(schema_id)
            return f"the registry has no schema {schema_id}"
        name = full_name(schema)
        if name == Progressed.full_name():
            return PROMISE
        if name != self.record:
            return f"schema {schema_id} is {name}, source {self.name!r} takes {self.record}"
        try:
            return _unlike(schema, self.schema) or Decoder(schema)
        except (BadSchema, *NO_SCHEMA) as error:
            return f"schema {schema_id} cannot be decoded: {error}"


def _unlike(written: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Why a record of the right name is none of the source's events; empty where it is one.

    The registry compares only what was registered under the record's own name.
    """
    there, defaults = columns_of(written), {field["name"] for field in wanted["fields"] if "default" in field}
    for name, column in columns_of(wanted).items():
        if name not in there and name not in defaults:
            return f"it has no field {name!r}"
        if name in there and (there[name].kind, there[name].time) != (column.kind, column.time):
            return f"its field {name!r} is {_said(there[name])}, where the source has {_said(column)}"
    return ""


def _said(column: Column) -> str:
    return "an instant" if column.time else f"a {column.kind}" if column.kind != "other" else "of another type"


@dataclass(frozen=True)
class Plan:
    """What one spec makes of the stream's raw records."""

    bundle: Bundle
    sources: dict[str, Source]
    """In the spec's order."""
    shard: int
    shards: int
    max_bytes: int

    @property
    def names(self) -> list[str]:
        """The sources by index."""
        return list(self.sources)

    @property
    def horizons(self) -> npt.NDArray[np.int64]:
        """How long (stream time, us) each source's ids are remembered."""
        return np.array([source.spec.dedupe for source in self.sources.values()], np.int64)

    @property
    def salts(self) -> npt.NDArray[np.uint64]:
        """By index."""
        return np.array([source.salt for source in self.sources.values()], np.uint64)


def compiled(bundle: Bundle, shard: int = 0, shards: int = 1, max_bytes: int = 1 << 19) -> Plan:
    """The plan of a spec for one shard; values longer than `max_bytes` are not decoded."""
    sources = {name: _source(bundle, name, index) for index, name in enumerate(bundle.stream.order)}
    return Plan(bundle, sources, shard, shards, max_bytes)


def _source(bundle: Bundle, name: str, index: int) -> Source:
    spec, columns = bundle.stream.sources[name], bundle.columns(name)
    rules = tuple(Rule(expressions.compile(check.rule, columns), check.else_ == "reject") for check in spec.checks)
    # a writer's double may stand where the source has an int, so all numbers are here
    numbers = {column: known for column, known in columns.items() if known.kind == "number" and not known.time}
    finite = {column: known.nullable or known.avro not in ("double", "float") for column, known in numbers.items()}
    tests = [rule.test.polars.fill_null(True).alias(str(i)) for i, rule in enumerate(rules)]
    source = Source(name, index, hash64(name.encode()), spec, bundle.schemas[name], rules, finite, tests)
    if name in bundle.ids:
        source.learn(bundle.ids[name], source.schema)
    if Progressed.full_name() in bundle.ids:
        source.learn(bundle.ids[Progressed.full_name()], Progressed.SCHEMA)
    return source
