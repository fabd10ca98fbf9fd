"""From a use case's folder to its bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tidemill.events.plain import full_name
from tidemill.spec.bundle import Bundle
from tidemill.spec.checks import check_model, check_stream
from tidemill.spec.errors import SpecErrors
from tidemill.spec.files import Document, near, read, shown
from tidemill.spec.findings import parse
from tidemill.spec.model import ModelSpec
from tidemill.spec.schemas import read_schema
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
    for path in sorted((root / "models").glob("[!.]*")):
        if path.suffix != ".yaml":
            out.append((_no_model(path), None))
            continue
        document = read(root, f"models/{path.name}")
        model = parse(document, ModelSpec)
        if model and (other := seen.setdefault(model.model, document.file)) != document.file:
            document.error(("model",), f"{model.model!r} is the name of {other} too", "choose another name")
        out.append((document, model))
    return out


def _no_model(path: Path) -> Document:
    document = Document(f"models/{path.name}")
    document.error((), "is not read as a model", f"name it {path.stem}.yaml, or put it elsewhere")
    return document


def _schemas(root: Path, stream: StreamSpec, document: Document) -> dict[str, dict[str, Any]]:
    """The schemas that can be read; what is wrong with the others is taken down."""
    schemas: dict[str, dict[str, Any]] = {}
    names: dict[str, str] = {}
    for source, spec in stream.sources.items():
        at = ("sources", source, "schema")
        path = _inside(root, spec.schema_)
        if path is None:
            files = [str(file.relative_to(root)) for file in sorted(root.rglob("*.avsc"))]
            document.error(at, f"no file {shown(spec.schema_)} in the use case's folder", near(spec.schema_, files))
            continue
        try:
            schema = read_schema(path, spec.schema_)
        except SpecErrors as error:
            document.errors += error.errors
            continue
        schemas[source] = schema
        other = names.setdefault(full_name(schema), source)
        if other != source and schemas[other] != schema:
            document.error(at, f"{full_name(schema)} is also the record of source {other!r}", "give it another name")
    return schemas


def _inside(root: Path, file: str) -> Path | None:
    """The file's path, or None where no file of the folder has this name."""
    try:
        path = (root / file).resolve()
        return path if path.is_relative_to(root.resolve()) and path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # too long, with a zero in it, a link to itself
        return None
