"""A use case as one value: the stream's spec, its models, its raw schemas, and the registry's ids of what folds meet."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tidemill.code import mark
from tidemill.errors import Rejected
from tidemill.spec.columns import Column, columns_of
from tidemill.spec.model import ModelSpec
from tidemill.spec.stream import StreamSpec


class Bundle(BaseModel):
    """What `apply` publishes and the log carries. Models by name, schemas by source, ids by record name or source."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    stream: StreamSpec
    models: dict[str, ModelSpec]
    schemas: dict[str, dict[str, Any]]
    ids: dict[str, int] = Field(default_factory=dict)
    """Of every source's raw schema (by source), every vector (`vector:<trigger>`), every record type a fold writes or
    reads (by full name)."""
    author: str = ""
    """Who applied it: may not approve what comes of it."""

    def to_json(self) -> str:
        """The canonical text: declared order kept (a vector's fields follow it), no spaces, ids and author included."""
        return _canonical(self.content() | {"ids": self.ids, "author": self.author})

    @classmethod
    def from_json(cls, text: str) -> Bundle:
        """The bundle of `to_json`; raises ValueError."""
        return cls.model_validate_json(text)

    @classmethod
    def applied(cls, stream: str, text: str) -> Bundle:
        """The bundle that a `spec.applied` brings for a stream; Rejected where it cannot be read, or is another stream's."""
        try:
            bundle = cls.from_json(text)
        except ValueError as error:  # of a newer version, or forged
            raise Rejected("bad-spec", f"the spec of {stream} cannot be read, the one before stays: {str(error)[:500]}") from error
        if bundle.stream.stream != stream:
            raise Rejected("bad-spec", f"what was applied for {stream} is a spec of {bundle.stream.stream!r}; the one before stays")
        return bundle

    @cached_property
    def digest(self) -> str:
        """`sha256:...` of the content without ids and author."""
        return _digest(self.content())

    @cached_property
    def data_digest(self) -> str:
        """`sha256:...` of what decides the bytes of vectors and outcomes: not of descriptions, gates, monitors, policies."""
        stream = self.stream.model_dump(mode="json", by_alias=True, exclude={"description", "owner", "align_wait"})
        labels = {name: (model.trigger, model.label.model_dump(mode="json")) for name, model in self.models.items()}
        return _digest({"stream": stream, "labels": labels, "schemas": self.schemas})

    @cached_property
    def mark(self) -> int:
        """Of the data digest: the `spec` field of a vector."""
        return mark(self.data_digest)

    def columns(self, source: str) -> dict[str, Column]:
        """The columns of a source."""
        return columns_of(self.schemas[source])

    def views_of(self, trigger: str) -> list[str]:
        """The views that a trigger's vector reads: those whose entity it has the columns of, in declared order."""
        known = self.columns(self.stream.triggers[trigger].source).keys()
        keys = {entity: set(columns) for entity, columns in self.stream.entities.items() if known >= set(columns)}
        return [name for name, view in self.stream.views.items() if view.entity in keys]

    def content(self) -> dict[str, Any]:
        """What the files say."""
        return self.model_dump(mode="json", by_alias=True, exclude={"ids", "author"})


def _canonical(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _digest(value: Any) -> str:
    return "sha256:" + hashlib.sha256(_canonical(value).encode()).hexdigest()
