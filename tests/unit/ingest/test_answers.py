"""A caller hears what became of exactly the record that was sent for it."""

from __future__ import annotations

from services.ingest.adapters.answers import Answer, Answers
from services.ingest.model import Lane

A0, A1 = Lane("a", 0), Lane("a", 1)
YES = Answer("accepted", 0, 7)
NO = Answer("duplicate", 0, 7)


def test_an_answer_that_comes_before_the_place_is_kept() -> None:
    answers = Answers()
    waiting = answers.expect(5)
    answers.tell(5, A0, 3, YES)
    assert not waiting.future.done()
    answers.sent(waiting, A0, 3)
    assert waiting.future.result(0) == YES
    assert answers.wanted() is None


def test_two_callers_with_one_id_hear_each_their_own() -> None:
    answers = Answers()
    first, second = answers.expect(5), answers.expect(5)
    answers.sent(first, A0, 3)
    answers.tell(5, A0, 4, NO)
    answers.tell(5, A0, 3, YES)
    answers.sent(second, A0, 4)
    assert (first.future.result(0), second.future.result(0)) == (YES, NO)


def test_what_nobody_waits_for_is_not_kept() -> None:
    answers = Answers()
    answers.tell(5, A1, 3, YES)
    waiting = answers.expect(6)
    assert answers.wanted().tolist() == [6]  # type: ignore[union-attr]
    answers.forget(waiting)
    assert (answers.wanted(), len(answers)) == (None, 0)
    answers.sent(waiting, A0, 1)
    answers.tell(6, A0, 1, YES)
    assert len(answers) == 0
