"""A stream's spec: sources, entities, views, triggers (`stream.yaml`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tidemill.spec.values import (
    DAY,
    HOUR,
    MINUTE,
    DelayOrColumn,
    Duration,
    Durations,
    FieldWord,
    Moment,
    Names,
    TopicWord,
    format_duration,
    parse_moment,
)
from tidemill.spec.windows import LONGEST


class Spec(BaseModel):
    """Immutable; unknown keys are errors; every number is finite; fields named by a Python word bear a trailing underscore."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), validate_by_alias=True, allow_inf_nan=False)


class Accept(Spec):
    """Which event times are believed (R7)."""

    from_: Moment = Field(default=parse_moment("2000-01-01"), alias="from")
    ahead: Duration = 5 * MINUTE
    """How far past now (past the feed's end in a replay)."""


def _pair(value: object) -> object:
    if isinstance(value, list | tuple) and len(value) == 2 and not any(isinstance(one, str | bool) for one in value):
        return value
    raise ValueError(f"{value!r} is no pair of numbers: write [LOWEST, HIGHEST]")


class Check(Spec):
    """A rule for each event of a source; a null passes all but `not_null`."""

    column: str | None = None
    in_: list[str | float | bool] | None = Field(default=None, alias="in")
    between: Annotated[tuple[float, float], BeforeValidator(_pair)] | None = None
    not_null: bool = False
    expr: str | None = None
    else_: Literal["reject", "warn"] = Field(default="reject", alias="else")

    @model_validator(mode="after")
    def _one_rule(self) -> Check:
        rules = [self.in_ is not None, self.between is not None, self.not_null, self.expr is not None]
        if sum(rules) != 1:
            raise ValueError("a check has one rule: write one of in, between, not_null, expr")
        if (self.column is None) == (self.expr is None):
            raise ValueError(
                "in, between and not_null need a column, and expr names its own: write `column` beside the former only"
            )
        if self.between is not None and self.between[0] > self.between[1]:
            raise ValueError(f"nothing is between {self.between[0]} and {self.between[1]}: write the smaller one first")
        return self

    @property
    def rule(self) -> str:
        """The rule as an expression: an event fails it where this is false."""
        if self.expr is not None:
            return self.expr
        name = f'"{self.column}"'
        if self.in_ is not None:
            return f"{name} IN ({', '.join(map(_literal, self.in_))})"
        if self.between is not None:
            return f"{name} BETWEEN {self.between[0]!r} AND {self.between[1]!r}"
        return f"{name} IS NOT NULL"


class SourceSpec(Spec):
    """One kind of raw events, in topic `raw.<stream>.<source>`."""

    schema_: str = Field(alias="schema")
    """The Avro schema's file, relative to the use case."""
    id: str
    """The column that with the source identifies an event."""
    time: str
    """The column of event time."""
    known_at: DelayOrColumn | None = None
    """When the event was known: a column, or event time plus a delay (R9); default: event time."""
    accept: Accept = Accept()
    dedupe: Duration = 7 * DAY
    """How long (stream time) an id is remembered (R6)."""
    checks: list[Check] = Field(default_factory=list)


class FeatureSpec(Spec):
    """One aggregation over some windows."""

    agg: Literal["count", "sum", "mean", "min", "max", "std", "last"]
    of: Annotated[str | None, BeforeValidator(lambda value: str(value) if isinstance(value, int | float) else value)] = None
    """An expression of the source's columns; nulls are left out. Without it (count only): rows."""
    over: Durations

    @model_validator(mode="after")
    def _of_what(self) -> FeatureSpec:
        if self.of is None and self.agg != "count":
            raise ValueError(f"{self.agg} is of something: write `of:` and a column or an expression")
        if len(set(self.over)) != len(self.over):
            raise ValueError("a window is named twice in `over`: write it once")
        return self


def _bounded(us: int) -> int:
    if us > LONGEST:
        raise ValueError(f"a lateness of {format_duration(us)} is not possible: write {format_duration(LONGEST)} or less")
    return us


class ViewSpec(Spec):
    """Features of one entity from one source (R16)."""

    source: str
    entity: str
    where: str | None = None
    lateness: Annotated[Duration, AfterValidator(_bounded)] = HOUR
    """How late, in event time, an event may come and still count."""
    features: dict[FieldWord, FeatureSpec] = Field(min_length=1)


class TriggerSpec(Spec):
    """Each event of the source asks for one vector."""

    source: str


class StreamSpec(Spec):
    """`stream.yaml`."""

    version: Literal[1]
    stream: TopicWord
    description: str = ""
    owner: str
    shards: int = Field(default=1, ge=1, le=1024)
    split_by: str | None = None
    """The column, present in every source, whose hash chooses the shard."""
    sources: dict[TopicWord, SourceSpec] = Field(min_length=1, max_length=200)
    order: list[str] = Field(default_factory=list)
    """At equal known times; default: as declared."""
    align_wait: Duration = 0
    """Wall time that ingest waits for a silent partition of a live source (R8)."""
    entities: dict[FieldWord, Names]
    views: dict[FieldWord, ViewSpec]
    triggers: dict[TopicWord, TriggerSpec] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _declared_order(cls, data: object) -> object:
        if isinstance(data, dict) and not data.get("order") and isinstance(data.get("sources"), dict):
            return {**data, "order": list(data["sources"])}
        return data


def _literal(value: str | float | bool) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)
