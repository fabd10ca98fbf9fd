"""What is wrong with a use case's files."""

from __future__ import annotations

from dataclasses import dataclass

from tidemill.errors import Refused


@dataclass(frozen=True, order=True)
class SpecError:
    """One finding: where, what, and what to do."""

    file: str
    line: int
    field: str
    """`-` where it is about the file as a whole."""
    message: str
    fix: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " + (f"{self.field}: " if self.field != "-" else "")
        return where + self.message + (f" ({self.fix})" if self.fix else "")


class SpecErrors(Refused):
    """All that is wrong, in order of file and line."""

    def __init__(self, errors: list[SpecError]) -> None:
        self.errors = sorted(set(errors))
        super().__init__("bad-spec", "\n".join(map(str, self.errors)))
