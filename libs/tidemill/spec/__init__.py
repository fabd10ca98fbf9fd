"""What a user writes to describe a use case, checked and in one piece."""

from tidemill.spec.bundle import Bundle
from tidemill.spec.errors import SpecError, SpecErrors
from tidemill.spec.load import load
from tidemill.spec.model import ModelSpec
from tidemill.spec.stream import StreamSpec, ViewSpec
from tidemill.spec.values import format_duration, format_moment, parse_duration
from tidemill.spec.windows import slide

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
