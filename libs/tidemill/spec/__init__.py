"""What a user writes to describe a use case, checked and in one piece.

`load` is found when it is asked for: it needs polars and an SQL parser, and most processes only read bundles.
"""

from typing import TYPE_CHECKING, Any

from tidemill.spec.bundle import Bundle
from tidemill.spec.errors import SpecError, SpecErrors
from tidemill.spec.model import ModelSpec
from tidemill.spec.stream import StreamSpec, ViewSpec
from tidemill.spec.values import format_duration, format_moment, parse_duration
from tidemill.spec.windows import slide

if TYPE_CHECKING:
    from tidemill.spec.loader import load

__all__ = [
    "Bundle",
    "ModelSpec",
    "SpecError",
    "SpecErrors",
    "StreamSpec",
    "ViewSpec",
    "format_duration",
    "format_moment",
    "load",
    "parse_duration",
    "slide",
]


def __getattr__(name: str) -> Any:
    if name == "load":
        from tidemill.spec.loader import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
