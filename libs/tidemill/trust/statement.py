"""The in-toto statement (v1) that an approver signs: this artifact, this report, this action, until then."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tidemill.errors import Refused


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Decision(_Frozen):
    """The predicate: what exactly is decided, and as of when. `effective_at` is event time, `expires` wall-clock time; both us."""

    stream: str
    model: str
    version: int
    report: str
    action: str
    rollout: int
    effective_at: int
    approval: str
    run: str
    requester: str
    author: str
    expires: int
    verdict: Literal["approve", "reject"] = "approve"
    reason: str = ""


class Subject(_Frozen):
    """What the statement is about: a model artifact by its digest."""

    name: str
    digest: dict[str, str]


class Statement(_Frozen):
    """An in-toto statement over one artifact."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field("https://in-toto.io/Statement/v1", alias="_type")
    subject: tuple[Subject]
    predicate_type: Literal["https://tidemill.dev/decision/v1"] = Field("https://tidemill.dev/decision/v1", alias="predicateType")
    predicate: Decision

    @classmethod
    def of(cls, artifact: str, decision: Decision) -> Statement:
        """A statement about `artifact` (`sha256:<hex>`)."""
        algorithm, _, digest = artifact.partition(":")
        return cls(
            subject=(Subject(name=f"{decision.model}/{decision.version}", digest={algorithm: digest}),),
            predicate=decision,
        )

    @property
    def artifact(self) -> str:
        """The artifact's digest as Tidemill writes it: `sha256:<hex>`."""
        ((algorithm, digest),) = self.subject[0].digest.items()
        return f"{algorithm}:{digest}"

    @property
    def question(self) -> str:
        """What was asked: the text without the approver's verdict and reason."""
        return self.decided("approve", "").text()

    def text(self) -> str:
        """The JSON text; what is signed is exactly its UTF-8 bytes."""
        return self.model_dump_json(by_alias=True)

    def decided(self, verdict: Literal["approve", "reject"], reason: str) -> Statement:
        """The same statement with the approver's verdict and reason."""
        return self.model_copy(update={"predicate": self.predicate.model_copy(update={"verdict": verdict, "reason": reason})})


def parse(payload: bytes) -> Statement:
    """The statement in an envelope's payload; Refused when it has another shape."""
    try:
        statement = Statement.model_validate_json(payload)
        if len(statement.subject[0].digest) != 1:
            raise ValueError("a subject has exactly one digest")
    except (ValidationError, ValueError) as error:
        raise Refused("bad-statement", f"not a decision statement: {error}") from error
    return statement


def question(text: str) -> str:
    """What a request's statement asks; Refused as `parse`.

    It names a moment to the microsecond (`expires`), so nobody can write down a question before governance asks it: of the requests
    that ask the same, the first is governance's own, and no other softens or hardens its terms.
    """
    return parse(text.encode()).question
