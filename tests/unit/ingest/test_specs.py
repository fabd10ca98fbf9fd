"""Which specs ingest follows: what stands in the log once, folds read for ever."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.ingest.adapters.control import Catalogue
from tests.unit.ingest.orders import told, with_model
from tests.unit.ingest.world import bundle
from tidemill.events.spec import Applied
from tidemill.spec import Bundle

GOOD = with_model(bundle())
VIEW = {"source": "a", "entity": "id", "features": {"m": {"agg": "mean", "of": "amount", "over": ["1h"]}}}


def applied(content: Any, digest: str = "", stream: str = "world") -> Applied:
    text = json.dumps(content)
    return Applied(stream=stream, digest=digest or digest_of(text), author="ann", content=text, applied_at=0)


def digest_of(text: str) -> str:
    try:
        return Bundle.from_json(text).digest
    except ValueError:
        return ""


def refused() -> float:
    return REGISTRY.get_sample_value("tidemill_specs_refused_total", {"stream": "world"}) or 0.0


def content() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GOOD.to_json())
    found["stream"]["views"]["v"] = json.loads(json.dumps(VIEW))
    return found


def test_a_spec_as_apply_publishes_it_is_followed() -> None:
    catalogue, before = Catalogue(), refused()
    catalogue.hear(told(applied(content())))
    catalogue.hear(told(applied(content() | {"author": "bob"})))
    found = catalogue.bundle("world")
    assert found is not None and (found.author, list(found.stream.views)) == ("bob", ["v"])
    assert refused() == before


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec["stream"]["views"]["v"]["features"]["m"].update(of="nope + 1"),
        lambda spec: spec["stream"]["views"]["v"].update(where="amount +"),
        lambda spec: spec["stream"]["views"]["v"].update(entity="nobody"),
        lambda spec: spec["stream"]["sources"]["a"].update(checks=[{"expr": "nope > 1"}]),
        lambda spec: spec["stream"]["sources"]["a"].update(id="amount"),
        lambda spec: spec["stream"].update(order=["a", "a"]),
        lambda spec: spec["stream"].update(shards=2, split_by="color"),
        lambda spec: spec["models"]["m"]["label"].update(value="nope"),
        lambda spec: spec["models"]["m"]["retrain"].update(on=[{"alert": "nobody"}]),
        lambda spec: spec["models"].update(n=spec["models"].pop("m")),
        lambda spec: spec["schemas"].pop("b"),
        lambda spec: spec["schemas"].update(c=spec["schemas"]["b"]),
        lambda spec: spec["schemas"].update(a=spec["schemas"]["a"] | {"namespace": "tidemill"}),
        lambda spec: spec["schemas"].update(a=spec["schemas"]["a"] | {"fields": [{"name": "id"}]}),
        lambda spec: spec["schemas"].update(a=spec["schemas"]["a"] | {"name": "B", "doc": "another"}),
        lambda spec: spec["ids"].pop("a"),
        lambda spec: spec["ids"].pop("vector:t"),
        lambda spec: spec["ids"].pop("tidemill.predictions.Prediction"),
        lambda spec: spec.update(version=99),
    ],
)
def test_what_folds_could_not_follow_is_not_followed_and_the_stream_keeps_its_spec(change: Change) -> None:
    catalogue, before = Catalogue(), refused()
    catalogue.hear(told(applied(content())))
    kept, bad = catalogue.bundle("world"), content()
    change(bad)
    catalogue.hear(told(applied(bad)))
    assert catalogue.bundle("world") is kept
    assert refused() == before + 1


@pytest.mark.parametrize("over", [{"digest": "sha256:0"}, {"stream": "other"}])
def test_an_event_that_says_otherwise_than_its_content_is_not_followed(over: dict[str, str]) -> None:
    catalogue = Catalogue()
    catalogue.hear(told(applied(content(), **over)))
    assert catalogue.streams == []
