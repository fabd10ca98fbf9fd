"""Why a raw record becomes a dead letter, and what the HTTP door answers."""

from __future__ import annotations

from typing import Final

UNDECODABLE: Final = "undecodable"
"""No Avro of its schema, nothing at all, or headers that cannot be read."""
UNKNOWN_SCHEMA: Final = "unknown-schema"
"""The registry has no such schema, or it is not one of this source."""
TOO_LARGE: Final = "too-large"
MISSING_ID: Final = "missing-id"
TIME_OUT_OF_RANGE: Final = "time-out-of-range"
"""Before the source's `from`, later than `ahead` allows, or no time at all (R7)."""
CHECK_FAILED: Final = "check-failed"
ID_CONFLICT: Final = "id-conflict"
"""The same (source, id) with other bytes (R6)."""
