"""From a use case's folder to its bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tidemill.events.plain import NO_SCHEMA, BadSchema, check_schema
from tidemill.spec.bundle import Bundle
from tidemill.spec.checks import check_model, check_stream
from tidemill.spec.errors import SpecError, SpecErrors
from tidemill.spec.files import Document, near, parse, read
from tidemill.spec.model import ModelSpec
from tidemill.spec.stream import StreamSpec

STREAM = "stream.yaml"


def load(folder: Path | str) -> Bundle:
    """The use case of a folder (`stream.yaml`, `models/*.yaml`, the schemas they name); raises SpecErrors, all at once."""
    root = Path(folder)
    document = read(root, STREAM)
    stream = parse(document, StreamSpec)
    models = _models(root)
    found = [error for at, _ in models for error in at.errors]
    if stream is None:
        raise SpecErrors(document.errors + found)
    schemas = _schemas(root, stream, document)
    bundle = Bundle(stream=stream, models={m.model: m for _, m in models if m}, schemas=schemas)
    if document.errors:
        raise SpecErrors(document.errors + found)
    check_stream(bundle, document)
    if not document.errors:
        for at, model in models:
            if model:
                check_model(bundle, model, at)
    found = document.errors + [error for at, _ in models for error in at.errors]
    if found:
        raise SpecErrors(found)
    return bundle


def _models(root: Path) -> list[tuple[Document, ModelSpec | None]]:
    out: list[tuple[Document, ModelSpec | None]] = []
    seen: dict[str, str] = {}
    for path in sorted((root / "models").glob("*.yaml")):
        document = read(root, f"models/{path.name}")
        model = parse(document, ModelSpec)
        if model and (other := seen.setdefault(model.model, document.file)) != document.file:
            document.error(("model",), f"{model.model!r} is the name of {other} too", "choose another name")
        out.append((document, model))
    return out


def _schemas(root: Path, stream: StreamSpec, document: Document) -> dict[str, dict[str, Any]]:
    """The schemas that can be read; what is wrong with the others is taken down."""
    schemas: dict[str, dict[str, Any]] = {}
    names: dict[str, str] = {}
    for source, spec in stream.sources.items():
        at = ("sources", source, "schema")
        path = (root / spec.schema_).resolve()
        if not path.is_relative_to(root.resolve()) or not path.is_file():
            files = [str(file.relative_to(root)) for file in sorted(root.rglob("*.avsc"))]
            document.error(at, f"no file {spec.schema_!r} in the use case's folder", near(spec.schema_, files))
            continue
        try:
            schema = _schema(path)
        except (BadSchema, *NO_SCHEMA) as error:
            document.errors.append(SpecError(spec.schema_, _line(error), "-", f"no usable Avro schema: {error}"))
            continue
        schemas[source] = schema
        other = names.setdefault(full_name(schema), source)
        if other != source and schemas[other] != schema:
            document.error(at, f"{full_name(schema)} is also the record of source {other!r}", "give it another name")
    return schemas


def full_name(schema: dict[str, Any]) -> str:
    """Namespace and name of a record."""
    return f"{schema['namespace']}.{schema['name']}" if schema.get("namespace") else str(schema["name"])


def _schema(path: Path) -> dict[str, Any]:
    schema = json.loads(path.read_text())
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise ValueError("the outermost type must be a record")
    check_schema(schema)
    if full_name(schema).startswith("tidemill."):
        raise ValueError("the namespace tidemill is the platform's own")
    return schema


def _line(error: BaseException) -> int:
    return error.lineno if isinstance(error, json.JSONDecodeError) else 1
