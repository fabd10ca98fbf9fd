"""A caller hears what became of exactly the record that was sent for it."""

from __future__ import annotations

import pytest
from confluent_kafka import Message

from services.ingest.adapters.answers import Answer, Answers
from services.ingest.adapters.replies import Address, addressed

YES = Answer("accepted", 0, 7)
NO = Answer("duplicate", 0, 7)


def test_two_callers_hear_each_their_own() -> None:
    answers = Answers()
    first, second = answers.expect(), answers.expect()
    answers.tell(second.number, NO)
    answers.tell(first.number, YES)
    assert (first.future.result(0), second.future.result(0)) == (YES, NO)
    assert len(answers) == 0


def test_an_answer_to_a_caller_whose_patience_is_over_harms_nobody() -> None:
    answers = Answers()
    waiting = answers.expect()
    waiting.future.cancel()  # as asyncio does at a time-out, before the question is forgotten
    answers.tell(waiting.number, YES)
    assert waiting.future.result(0) == YES


def test_the_first_answer_counts() -> None:
    answers = Answers()
    waiting = answers.expect()
    answers.tell(waiting.number, YES)
    answers.tell(waiting.number, NO)
    answers.fail(waiting.number, OSError())
    assert waiting.future.result(0) == YES


def test_what_nobody_waits_for_is_not_kept() -> None:
    answers = Answers()
    answers.tell(3, YES)
    waiting = answers.expect()
    answers.forget(waiting.number)
    answers.tell(waiting.number, YES)
    assert len(answers) == 0
    assert not waiting.future.done()


def test_a_record_names_who_asked() -> None:
    asked = Address("5f2b", 17)
    plain, other = Message(value=b"x"), Message(value=b"x", headers=[("traceparent", b"00-x")])
    assert addressed([plain, Message(value=b"x", headers=[other.headers()[0], asked.header]), other]) == {1: asked}  # type: ignore[index]
    assert addressed([plain, plain]) == {}


@pytest.mark.parametrize("text", [b"", b"5f2b", b"5f2b/", b"/17", b"5f2b/-1", b"5f2b/x", b"\xff/\xff", b"5f2b/" + b"9" * 40, None])
def test_what_names_nobody_is_passed_over(text: bytes | None) -> None:
    assert addressed([Message(value=b"x", headers=[("tidemill-answer-to", text)])]) == {}
