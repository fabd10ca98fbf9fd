"""Servers that somebody else runs."""

from __future__ import annotations

import pytest

from tidemill.stack import kafka, postgres, registry
from tidemill.stack.child import StartFailed
from tidemill.stack.outside import await_answer


def test_it_is_asked_until_it_answers() -> None:
    said = iter([False, False, True])
    await_answer("Kafka", "kafka", lambda: next(said), lambda: False)
    assert list(said) == []


def test_one_that_does_not_answer_is_named_with_its_setting() -> None:
    with pytest.raises(StartFailed, match=r"Kafka at nowhere did not answer .* the setting 'kafka'"):
        await_answer("Kafka at nowhere", "kafka", lambda: False, lambda: True)


def test_nobody_answers_at_a_closed_port() -> None:
    assert not kafka.answers("127.0.0.1:1")
    assert not registry.answers("http://127.0.0.1:1/apis/ccompat/v7")
    assert not registry.answers("no url")
    assert not postgres.answers("postgresql://me@127.0.0.1:1/db")
