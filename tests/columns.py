"""Records as columns, of what another client read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from confluent_kafka import Message

from tidemill.bus.consumer import UNREADABLE, headers_of
from tidemill.bus.heads import write
from tidemill.bus.records import Fetched
from tidemill.events.blobs import Blobs

UNREADABLE_HEAD: Final = b"\x02\x04\xff\xfe\x02x"
"""One header whose name is no UTF-8, as Kafka writes it."""


def fetched(messages: Sequence[Message]) -> Fetched:
    """The same records."""
    return Fetched(
        np.array([message.offset() for message in messages], np.int64),
        np.array([message.timestamp()[1] for message in messages], np.int64),
        Blobs.of([message.key() for message in messages]),
        Blobs.of([message.value() for message in messages]),
        Blobs.of(list(map(_head, headers_of(messages)))),
    )


def _head(headers: Any) -> bytes:
    return UNREADABLE_HEAD if headers is UNREADABLE else write([(name, value or b"") for name, value in headers or ()])
