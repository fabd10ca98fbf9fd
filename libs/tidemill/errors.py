"""
TidemillError
├── Transient   wait and try the same record again
├── Rejected    dead-letter the record, with its reason, and go on
└── Refused     answer the caller with 4xx

Anything else is a bug: the process stops, the position stays.
"""

from __future__ import annotations


class TidemillError(Exception):
    """The root of all errors that Tidemill raises on purpose."""


class Transient(TidemillError):
    """Something that is away for now: wait and try the same record again."""


class _WithReason(TidemillError):
    def __init__(self, reason: str, message: str) -> None:
        """`reason` is a stable code (`id-conflict`); `message` says what happened and what to do next."""
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class Rejected(_WithReason):
    """The record can never be taken: dead-letter it with its reason, and go on."""


class Refused(_WithReason):
    """The caller asked for something that will not be done: answer with 4xx, or exit code 1."""
