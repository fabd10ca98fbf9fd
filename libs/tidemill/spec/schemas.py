"""A source's Avro schema: read, checked, and told by line and field where it is none."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tidemill.events.plain import BadSchema, check_schema, full_name
from tidemill.spec.errors import SpecError, SpecErrors
from tidemill.spec.files import bad_byte


def read_schema(path: Path, file: str) -> dict[str, Any]:
    """The schema in a file, which findings call `file`; raises SpecErrors."""
    text = ""
    try:
        text = path.read_text(encoding="utf-8-sig")
        return _checked(json.loads(text))
    except UnicodeDecodeError as error:
        found = bad_byte(file, error)
    except OSError as error:
        found = SpecError(file, 1, "-", f"cannot be read: {error.strerror}", "let everybody read it")
    except json.JSONDecodeError as error:
        found = _unusable(file, error.lineno, "-", f"no JSON: {error.msg}", "look for a bracket, a quote or a comma")
    except BadSchema as error:
        found = _unusable(file, _line(text, error.field), error.field or "-", error.message, error.fix)
    except (ValueError, RecursionError):  # which JSON allows and Python does not read
        found = _unusable(file, 1, "-", "a number of thousands of digits, or brackets as deep", "take it out")
    raise SpecErrors([found])


def _checked(schema: Any) -> dict[str, Any]:
    check_schema(schema)
    try:
        json.dumps(schema, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise BadSchema("a number or a text that JSON cannot say", "take out NaN, Infinity and \\ud800 to \\udfff") from error
    if "." in schema["name"]:
        raise BadSchema(f"the name {schema['name']!r} has dots", "write what is before the last as `namespace`")
    if full_name(schema).startswith("tidemill."):
        raise BadSchema("the namespace tidemill is the platform's own", "choose another")
    found: dict[str, Any] = schema
    return found


def _unusable(file: str, line: int, field: str, message: str, fix: str) -> SpecError:
    return SpecError(file, line, field, f"no usable Avro schema: {message}", fix)


def _line(text: str, field: str) -> int:
    """Where a field is named first."""
    found = re.search(rf'"name"\s*:\s*"{re.escape(field.rpartition(".")[2])}"', text)
    return text.count("\n", 0, found.start()) + 1 if found else 1
