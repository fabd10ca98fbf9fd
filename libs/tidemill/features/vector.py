"""The vector of a trigger: fixed-width Avro that any client reads, and a numpy dtype for us."""

from __future__ import annotations

from typing import Any

from tidemill.spec import Bundle
from tidemill.spec.values import format_duration

HASH = {"type": "fixed", "name": "Hash", "size": 8, "doc": "hash64 of a text, little endian; zeros where it is null."}


def vector_schema(bundle: Bundle, trigger: str) -> dict[str, Any]:
    """The Avro schema of a trigger's vectors; its field order is the declared order of columns, views, features and windows."""
    stream = bundle.stream.stream
    return {
        "type": "record",
        "name": "Vector",
        "namespace": ".".join(("tidemill", _word(stream), _word(trigger))),
        "doc": f"What was known of a {trigger} of {stream} at its position in the log. NaN is a missing value.",
        "fields": [
            *_head(),
            *_event_fields(bundle, trigger),
            *({"name": name, "type": "double"} for name in windows(bundle, trigger)),
        ],
    }


def event_columns(bundle: Bundle, trigger: str) -> dict[str, str]:
    """The trigger's own columns that its vector holds, and their kinds: all but its id and what has no fixed width."""
    source = bundle.stream.triggers[trigger].source
    identity = bundle.stream.sources[source].id
    return {name: column.kind for name, column in bundle.columns(source).items() if name != identity and column.kind != "other"}


def windows(bundle: Bundle, trigger: str) -> list[str]:
    """The vector's last fields: every feature over every window, of all views that it reads."""
    return [
        f"{view}__{name}__{format_duration(window)}"
        for view in bundle.views_of(trigger)
        for name, feature in bundle.stream.views[view].features.items()
        for window in feature.over
    ]


def _head() -> list[dict[str, Any]]:
    texts = {
        "seq": "Dense number of this record in its output partition (R1).",
        "position": "Offset of the trigger in the stream's log.",
        "stream_time": "Stream time of the trigger, microseconds since the epoch (R7).",
        "event_time": "Event time of the trigger, microseconds since the epoch.",
        "known_time": "When the trigger was known, microseconds since the epoch (R9).",
    }
    fields: list[dict[str, Any]] = [{"name": name, "type": "double", "doc": text} for name, text in texts.items()]
    fields.append({"name": "id_hash", "type": HASH, "doc": "hash64 of the trigger's id."})
    fields.append({"name": "spec", "type": "Hash", "doc": "First 8 bytes of the digest of what the spec says of these bytes."})
    fields.append({"name": "code", "type": "Hash", "doc": "First 8 bytes of the digest of the fold's code."})
    fields.append({"name": "late", "type": "boolean", "doc": "The trigger came too late for a view, whose values are missing."})
    return fields


def _event_fields(bundle: Bundle, trigger: str) -> list[dict[str, Any]]:
    kinds = event_columns(bundle, trigger)
    return [{"name": f"event__{name}", "type": "Hash" if kind == "text" else "double"} for name, kind in kinds.items()]


def _word(text: str) -> str:
    return text.replace("-", "_").replace(".", "_")
