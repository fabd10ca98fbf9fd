"""What a spec's change consists of, as people read it."""

from pathlib import Path
from typing import Any

from tidemill.spec import Bundle, load
from tidemill.spec.diff import changes

FLIGHTS = load(Path(__file__).parents[3] / "usecases" / "flights")


def changed(**stream: Any) -> Bundle:
    return FLIGHTS.model_copy(update={"stream": FLIGHTS.stream.model_copy(update=stream)})


def test_the_same_bundle_is_no_change() -> None:
    assert changes(FLIGHTS, FLIGHTS.model_copy(update={"ids": {"a": 1}})) == []


def test_a_new_stream_is_all_additions() -> None:
    lines = [str(change) for change in changes(None, FLIGHTS)]
    assert all(line.startswith("+ ") for line in lines)
    assert '+ stream.views.carrier_arrivals: {"source": "arrivals", "entity": "carrier", "lateness": "1h"' in "\n".join(lines)
    assert '+ schemas.arrivals.dest: "string"' in lines


def test_values_are_added_removed_and_replaced() -> None:
    views = dict(FLIGHTS.stream.views)
    views["again"] = views.pop("carrier_arrivals")
    lines = [str(change) for change in changes(FLIGHTS, changed(owner="others", views=views))]
    assert lines[0] == '~ stream.owner: "flight-ops" -> "others"'
    assert [line[:30] for line in lines[1:]] == ["- stream.views.carrier_arrivals"[:30], '+ stream.views.again: {"source"'[:30]]


def test_an_order_is_a_change() -> None:
    views = dict(reversed(FLIGHTS.stream.views.items()))
    [change] = changes(FLIGHTS, changed(views=views))
    assert (change.path, change.after) == ("stream.views (order)", ", ".join(views))
