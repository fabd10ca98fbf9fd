"""Writes the Python types of all schemas: `python -m tidemill.events.generate` (`--check` only compares).

One module per domain (`tidemill.events.training`), one class per record.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tidemill.events.paths import schemas_dir
from tidemill.events.topics import topic_of

HERE = Path(__file__).parent
HEADING = '"""{doc}\n\nGenerated from schemas/{domain} by `python -m tidemill.events.generate`: do not edit.\n"""'
PRIMITIVES = {
    "string": "str",
    "int": "int",
    "long": "int",
    "float": "float",
    "double": "float",
    "boolean": "bool",
    "bytes": "bytes",
    "null": "None",
}

Schema = dict[str, Any]


def modules() -> dict[Path, str]:
    """Each generated file and its text."""
    domains = sorted(path.name for path in schemas_dir().iterdir() if path.is_dir())
    return {HERE / f"{name}.py": _module(name) for name in domains}


def main() -> int:
    """Write the files, or with `--check` say which are out of date."""
    stale = [path for path, text in modules().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if "--check" not in sys.argv:
            path.write_text(modules()[path])
        sys.stdout.write(f"{path.name}\n")
    return int(bool(stale) and "--check" in sys.argv)


def _module(domain: str) -> str:
    files = sorted((schemas_dir() / domain).glob("*.avsc"))
    schemas = {f"{domain}/{path.name.removesuffix('.avsc')}": json.loads(path.read_text()) for path in files}
    inner: dict[str, Schema] = {}
    for schema in schemas.values():
        for found in _named(schema["fields"]):
            if inner.setdefault(found["name"], found) != found:
                raise ValueError(f"{domain}: two different definitions of {found['name']}")
    enums = [_enum(found) for found in inner.values() if found["type"] == "enum"]
    parts = [_class(found, "Part", []) for found in inner.values() if found["type"] == "record"]
    events = [_event(path, schema) for path, schema in schemas.items()]
    blocks = [_imports(bool(parts), bool(enums), domain), *(["\n".join(enums)] if enums else [])]
    return "\n\n".join(blocks) + "\n\n\n" + "\n\n\n".join(parts + events) + "\n"


def _imports(parts: bool, enums: bool, domain: str) -> str:
    doc = f"The facts of the domain {domain!r}."
    typing = "from typing import ClassVar, Literal" if enums else "from typing import ClassVar"
    base = "from tidemill.events.base import Event, Part" if parts else "from tidemill.events.base import Event"
    paths = "from tidemill.events.paths import Schema, load_schema"
    return "\n".join(
        [HEADING.format(doc=doc, domain=domain), "", "from __future__ import annotations", "", typing, "", base, paths]
    )


def _named(fields: list[Schema]) -> Iterator[Schema]:
    for field in fields:
        kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
        for kind in kinds:
            while isinstance(kind, dict) and kind["type"] in ("array", "map"):
                kind = kind.get("items", kind.get("values"))
            if isinstance(kind, dict) and kind["type"] in ("enum", "record"):
                yield from _named(kind.get("fields", []))
                yield kind


def _enum(schema: Schema) -> str:
    return f"{schema['name']} = Literal[{', '.join(json.dumps(symbol) for symbol in schema['symbols'])}]"


def _event(path: str, schema: Schema) -> str:
    topic = topic_of(f"{schema['namespace']}.{schema['name']}")
    name = f'"{topic.name}"' if topic and not topic.pattern else "None"
    key = topic.key if topic and topic.key in {field["name"] for field in schema["fields"]} else ""
    constants = [
        f"    TOPIC: ClassVar[str | None] = {name}",
        f'    SCHEMA: ClassVar[Schema] = load_schema("{path}")',
        f'    KEY: ClassVar[str] = "{key}"',
        "",
    ]
    return _class(schema, "Event", constants)


def _class(schema: Schema, base: str, constants: list[str]) -> str:
    doc = schema.get("doc", "A part of this domain's facts.")
    lines = [f"class {schema['name']}({base}):", f'    """{doc}"""', "", *constants]
    for field in schema["fields"]:
        default = f" = {_literal(field['default'])}" if "default" in field else ""
        lines.append(f"    {field['name']}: {_annotation(field['type'])}{default}")
        if field.get("doc"):
            lines.append(f'    """{field["doc"]}"""')
    return "\n".join(lines)


def _literal(value: object) -> str:
    if isinstance(value, list | dict):
        return f"{value!r}  # noqa: RUF012 - every instance gets its own"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _annotation(kind: Any) -> str:
    if isinstance(kind, list):
        return " | ".join(sorted(map(_annotation, kind), key="None".__eq__))
    if isinstance(kind, str):
        return PRIMITIVES.get(kind, kind if kind != "Hash" else "bytes")
    if kind["type"] == "array":
        return f"list[{_annotation(kind['items'])}]"
    if kind["type"] == "map":
        return f"dict[str, {_annotation(kind['values'])}]"
    if kind["type"] in ("enum", "record"):
        return str(kind["name"])
    return "bytes" if kind["type"] == "fixed" else _annotation(kind["type"])


if __name__ == "__main__":
    sys.exit(main())
