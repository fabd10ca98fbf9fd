"""The table of topics (schemas/topics.toml): what travels where, by which key and retention, said and heard by whom."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from tidemill.events.paths import schemas_dir

DEAD_LETTERS = "dead-letters"
_COMPRESSION = "compression.type"


@dataclass(frozen=True)
class Topic:
    """One row: a topic, or a pattern of topics with `{stream}` and `{source}` in its name."""

    name: str
    doc: str
    key: str
    """What the Kafka key holds: a field's name, or a description in angle brackets where it is not a field."""
    partitions: int
    per_shard: bool
    """Whether the topic has as many partitions as the stream has shards."""
    config: dict[str, str]
    records: tuple[str, ...]
    """Full names of the record types it carries; `<raw>` and `<vector>` are a use case's own."""
    compatibility: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]

    @property
    def pattern(self) -> bool:
        """Whether this row stands for many topics."""
        return "{" in self.name

    def of(self, stream: str, source: str, shards: int) -> Topic:
        """The row's topic for one stream (and source)."""
        name = self.name.format(stream=stream, source=source)
        return replace(self, name=name, partitions=shards if self.per_shard else self.partitions)


@cache
def load_topics() -> dict[str, Topic]:
    """All rows by name or pattern."""
    table = tomllib.loads((schemas_dir() / "topics.toml").read_text())
    return {row["name"]: _topic(row, table["config"]) for row in table["topic"]}


def control_topics() -> list[Topic]:
    """The topics that exist once, whatever streams there are."""
    return [topic for topic in load_topics().values() if not topic.pattern]


def stream_topics(stream: str, sources: Sequence[str], shards: int) -> list[Topic]:
    """The topics of one stream."""
    return [
        topic.of(stream, source, shards)
        for topic in load_topics().values()
        if topic.pattern
        for source in (sources if "{source}" in topic.name else ("",))
    ]


@cache
def topic_of(record: str) -> Topic | None:
    """The one topic that carries a record type, by its full name; None for a use case's own types."""
    return next((topic for topic in load_topics().values() if record in topic.records), None)


def compression_of(names: Iterable[str]) -> str:
    """The codec for a producer of these topics (names or patterns): the one that all ask for, else the cheapest."""
    asked = {row.config.get(_COMPRESSION) if (row := load_topics().get(name)) else None for name in names}
    return (asked.pop() if len(asked) == 1 else None) or "lz4"


def compatibility_of(record: str) -> str:
    """The registry's rule for a record type's subject."""
    topic = topic_of(record)
    return topic.compatibility if topic else "BACKWARD_TRANSITIVE"


def _topic(row: dict[str, object], configs: dict[str, dict[str, object]]) -> Topic:
    partitions = row.get("partitions", 1)
    config = {key: str(value) for key, value in configs[str(row["config"])].items()}
    return Topic(
        name=str(row["name"]),
        doc=str(row["doc"]),
        key=str(row["key"]),
        partitions=1 if partitions == "shards" else int(str(partitions)),
        per_shard=partitions == "shards",
        config=config,
        records=_names(row["records"]),
        compatibility=str(row["compatibility"]),
        producers=_names(row["producers"]),
        consumers=_names(row["consumers"]),
    )


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"topics.toml: a list of names is expected, not {value!r}")
    return tuple(map(str, value))
