"""Raw records get the schema id of their headers, and those whose headers cannot be read die alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from confluent_kafka import Message

from services.ingest import errors
from services.ingest.adapters.framing import prefixed
from services.ingest.adapters.letters import letter
from services.ingest.adapters.replies import addressed
from services.ingest.model import Arrival, Dead, Lane
from tidemill.bus.consumer import UNREADABLE
from tidemill.events import wire
from tidemill.events.schema_registry import Registry

NOWHERE = Registry("http://127.0.0.1:2")
FRAMED = b"\0\0\0\0\1x"


def arrival(*headers: Any) -> Arrival:
    """A record per argument, each with these headers and a value without its schema id."""
    origins = [
        Message(topic="raw.s.a", partition=0, offset=at, key=b"k", value=b"x", headers=head) for at, head in enumerate(headers)
    ]
    index = np.arange(len(origins))
    return Arrival(Lane("a", 0), index, index, [b"x"] * len(origins), origins)


def test_a_record_whose_headers_cannot_be_read_dies_alone() -> None:
    answer_to, schema_id = ("tidemill-answer-to", b"me/1"), (wire.SCHEMA_ID_HEADER, FRAMED[:5])
    came = prefixed(arrival([schema_id], UNREADABLE, None, [answer_to]), NOWHERE)
    assert came.values == [FRAMED, b"x", b"x", b"x"]
    assert came.unframed == {1: (errors.UNDECODABLE, "the name of a header is not UTF-8")}
    assert list(addressed(came.origins)) == [3]


def test_its_letter_has_the_record_without_headers() -> None:
    (origin,) = arrival(UNREADABLE).origins
    made, _ = letter(Dead(Lane("a", 0), 7, errors.UNDECODABLE, "said", origin), "s", 1)
    assert (made.key, made.value, made.headers, made.offset) == (b"k", b"x", [], 7)


def test_records_without_headers_stay_as_they_are() -> None:
    came = arrival(None, None)
    assert prefixed(came, NOWHERE) is came
