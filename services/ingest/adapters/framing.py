"""Raw records whose schema id stands in a header, in the form that the log has: the id before the datum."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from services.ingest import errors
from services.ingest.model import Arrival
from tidemill.bus.consumer import headers_of, unreadable
from tidemill.errors import Rejected
from tidemill.events import wire
from tidemill.events.schema_registry import Registry, UnknownSchema

_NO_UTF8: Final = (errors.UNDECODABLE, "the name of a header is not UTF-8")


def prefixed(arrival: Arrival, registry: Registry) -> Arrival:
    """The same records, each with its schema id before its datum. Raises Transient.

    A record without headers costs no Python call; one without a value stays as it is. Headers that cannot be read might name another
    schema than the value does.
    """
    headers = headers_of(arrival.origins)
    found = {at: value or b"" for at, head in enumerate(headers) if head for name, value in head if name == wire.SCHEMA_ID_HEADER}
    unframed = dict.fromkeys(unreadable(headers), _NO_UTF8)
    if not found and not unframed:
        return arrival
    values = list(arrival.values)
    for at, head in found.items():
        if (value := values[at]) is None:
            continue
        try:
            values[at] = wire.prefixed(value, head, registry)
        except Rejected as error:
            unframed[at] = (errors.UNKNOWN_SCHEMA if isinstance(error, UnknownSchema) else errors.UNDECODABLE, error.message)
    return replace(arrival, values=values, unframed=unframed)
