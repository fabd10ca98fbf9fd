"""What a spec's parts demand of each other: names that exist, expressions that compile, windows that can be cut."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Final

from tidemill.spec import expressions
from tidemill.spec.bundle import Bundle
from tidemill.spec.columns import Kind
from tidemill.spec.expressions import BadExpression, Expression
from tidemill.spec.files import Document, Path_, near
from tidemill.spec.model import METRICS, AlertSpec, ModelSpec
from tidemill.spec.stream import ViewSpec
from tidemill.spec.values import format_duration
from tidemill.spec.windows import slide


def check_stream(bundle: Bundle, document: Document) -> None:
    """Take down what is wrong in `stream.yaml`."""
    stream = bundle.stream
    _check_order(bundle, document)
    for name in stream.sources:
        _check_source(bundle, name, document)
    for entity, columns in stream.entities.items():
        for column, count in Counter(columns).items():
            if count > 1:
                document.error(("entities", entity), f"column {column!r} twice in one key", "name it once")
            _check_written_alike(bundle, _sources_of(bundle, entity), column, ("entities", entity), document)
    if stream.split_by is not None:
        _check_written_alike(bundle, stream.sources, stream.split_by, ("split_by",), document)
    for name, view in stream.views.items():
        _check_view(bundle, name, view, document)
    for name, trigger in stream.triggers.items():
        _known(trigger.source, stream.sources, "source", ("triggers", name, "source"), document)


def check_model(bundle: Bundle, model: ModelSpec, document: Document) -> None:
    """Take down what is wrong in a model's file, whose stream is sound."""
    stream = bundle.stream
    if model.stream != stream.stream:
        document.error(("trigger",), f"stream {model.stream!r} is not this one", f"write {stream.stream}.<trigger>")
        return
    if not _known(model.trigger_name, stream.triggers, "trigger", ("trigger",), document):
        return
    _check_features(bundle, model, document)
    _check_label(bundle, model, document)
    for index, cause in enumerate(model.retrain.on):
        if cause.alert is not None:
            _known(cause.alert, model.monitors.alerts, "alert", ("retrain", "on", index, "alert"), document)
    for name, gate in model.gates.items():
        _known(gate.metric, METRICS, "metric", ("gates", name, "metric"), document)
    for name, alert in model.monitors.alerts.items():
        _check_alert(bundle, model, alert, ("monitors", "alerts", name), document)


def _check_order(bundle: Bundle, document: Document) -> None:
    sources, order = bundle.stream.sources, bundle.stream.order
    for index, name in enumerate(order):
        _known(name, sources, "source", ("order", index), document)
    for name in sources:
        if order.count(name) != 1:
            document.error(("order",), f"source {name!r} stands {order.count(name)} times in it", "each source once")


def _check_source(bundle: Bundle, name: str, document: Document) -> None:
    source, columns, at = bundle.stream.sources[name], bundle.columns(name), ("sources", name)
    if _known(source.id, columns, "column", (*at, "id"), document) and columns[source.id].kind != "text":
        document.error((*at, "id"), f"column {source.id!r} is no string", "an event's id is a string")
    _check_time(bundle, name, source.time, (*at, "time"), document)
    if isinstance(source.known_at, str):
        _check_time(bundle, name, source.known_at, (*at, "known_at"), document)
    if bundle.stream.split_by is not None:
        _known(bundle.stream.split_by, columns, f"column of {name}", ("split_by",), document)
    elif bundle.stream.shards > 1:
        document.error(("shards",), "more than one shard, and nothing that splits", "add `split_by: COLUMN`")
    for index, check in enumerate(source.checks):
        field = (*at, "checks", index, "expr" if check.expr is not None else "column")
        _compiled(bundle, name, check.rule, ("boolean",), field, document)


def _check_time(bundle: Bundle, source: str, column: str, at: Path_, document: Document) -> None:
    columns = bundle.columns(source)
    if not _known(column, columns, "column", at, document):
        return
    if not columns[column].time:
        document.error(at, f"column {column!r} is no instant", 'give it logicalType "timestamp-micros"')
    elif columns[column].nullable:
        document.error(at, f"column {column!r} may be null", "every event has a time")


def _check_view(bundle: Bundle, name: str, view: ViewSpec, document: Document) -> None:
    stream, at = bundle.stream, ("views", name)
    known = _known(view.source, stream.sources, "source", (*at, "source"), document)
    entity = _known(view.entity, stream.entities, "entity", (*at, "entity"), document)
    if not known:
        return
    if entity:
        _entity_columns(bundle, view.source, view.entity, (*at, "entity"), document)
        if not any(name in bundle.views_of(t) for t, spec in stream.triggers.items() if spec.source in stream.sources):
            wanted = ", ".join(stream.entities[view.entity])
            document.error((*at, "entity"), f"no trigger has the columns {wanted}", "nobody could read this view")
    if view.where is not None:
        _compiled(bundle, view.source, view.where, ("boolean",), (*at, "where"), document)
    steps: set[int] = set()
    for feature, spec in view.features.items():
        field = (*at, "features", feature)
        if spec.of is not None:
            _compiled(bundle, view.source, spec.of, ("number", "boolean"), (*field, "of"), document)
        for window in spec.over:
            try:
                steps.add(slide(window))
            except ValueError as error:
                document.error((*field, "over"), str(error), "choose another window")
    _check_lateness(view.lateness, math.lcm(*steps), (*at, "lateness"), document)


def _check_lateness(lateness: int, step: int, at: Path_, document: Document) -> None:
    if lateness % step:
        message = f"the lateness of {format_duration(lateness)} is no multiple of the slide {format_duration(step)}"
        document.error(at, message, f"`lateness: {format_duration(-(-lateness // step) * step)}`")


def _entity_columns(bundle: Bundle, source: str, entity: str, at: Path_, document: Document) -> None:
    columns = bundle.columns(source)
    for column in bundle.stream.entities[entity]:
        if _known(column, columns, f"column of {source}", at, document) and columns[column].kind == "other":
            document.error(at, f"column {column!r} of {source} cannot be a key", "use a string, number or boolean")


def _sources_of(bundle: Bundle, entity: str) -> list[str]:
    """The sources whose events have an entity that a view adds to, or a trigger reads."""
    stream = bundle.stream
    asking = [spec.source for spec in stream.triggers.values()]
    adding = [view.source for view in stream.views.values() if view.entity == entity]
    return [name for name in stream.sources if name in {*asking, *adding}]


def _check_written_alike(bundle: Bundle, sources: Iterable[str], column: str, at: Path_, document: Document) -> None:
    """A key is known by the hash of its text: a number must be written alike wherever it stands, as 42, or as 42.0."""
    told = {source: bundle.columns(source)[column] for source in sources if column in bundle.columns(source)}
    kinds = {source: _WHOLE.get(one.avro, one.avro) for source, one in told.items() if one.kind == "number"}
    if len(set(kinds.values())) > 1:
        listed = ", ".join(f"{kind} in {source}" for source, kind in kinds.items())
        document.error(at, f"column {column!r} is {listed}: equal keys would not meet", "give it one type")


_WHOLE: Final = {"int": "long"}
"""Types whose numbers have the text of another type's."""


def _check_features(bundle: Bundle, model: ModelSpec, document: Document) -> None:
    trigger = bundle.stream.triggers[model.trigger_name]
    columns, features = bundle.columns(trigger.source), model.features
    for index, name in enumerate(features.event):
        at = ("features", "event", index)
        if _known(name, columns, f"column of {trigger.source}", at, document) and columns[name].kind == "other":
            document.error(at, f"column {name!r} is no number, text or boolean", "leave it out")
        if name == bundle.stream.sources[trigger.source].id:
            document.error(at, f"column {name!r} is the event's id", "an id says nothing about other events")
    for index, name in enumerate(features.views):
        at = ("features", "views", index)
        usable = bundle.views_of(model.trigger_name)
        if _known(name, bundle.stream.views, "view", at, document) and name not in usable:
            wanted = ", ".join(bundle.stream.entities[bundle.stream.views[name].entity])
            document.error(at, f"{trigger.source} lacks {wanted}, the key of view {name!r}", near(name, usable))
    for field, names in (("event", features.event), ("views", features.views)):
        for name in {name for name in names if names.count(name) > 1}:
            document.error(("features", field), f"{name!r} twice", "name it once")


def _check_label(bundle: Bundle, model: ModelSpec, document: Document) -> None:
    label = model.label
    if not _known(label.source, bundle.stream.sources, "source", ("label", "source"), document):
        return
    for source in (label.source, model.trigger_source(bundle)):
        columns = bundle.columns(source)
        known = _known(label.match, columns, f"column of {source}", ("label", "match"), document)
        if known and columns[label.match].kind == "other":
            document.error(("label", "match"), f"column {label.match!r} of {source} cannot be a key", "use a string")
    _check_written_alike(bundle, (label.source, model.trigger_source(bundle)), label.match, ("label", "match"), document)
    _compiled(bundle, label.source, label.value, ("boolean",), ("label", "value"), document)


def _check_alert(bundle: Bundle, model: ModelSpec, alert: AlertSpec, at: Path_, document: Document) -> None:
    for name in alert.of.names if alert.of else ():
        _known(name, feature_names(bundle, model), "feature", (*at, "of"), document)
    bound = alert.above or alert.below
    if bound and bound.times_test and alert.metric not in METRICS:
        document.error(at, f"{alert.metric} has no figure on test rows", "write a number as its bound")


def feature_names(bundle: Bundle, model: ModelSpec) -> list[str]:
    """The vector fields a model reads, in order: `event__<column>`, `<view>__<feature>__<window>`."""
    return [f"event__{name}" for name in model.features.event] + [
        f"{view}__{feature}__{format_duration(window)}"
        for view in model.features.views
        if view in bundle.stream.views
        for feature, spec in bundle.stream.views[view].features.items()
        for window in spec.over
    ]


def _compiled(bundle: Bundle, source: str, text: str, kinds: tuple[Kind, ...], at: Path_, document: Document) -> Expression | None:
    try:
        expression = expressions.compile(text, bundle.columns(source))
    except BadExpression as error:
        document.error(at, f"{text!r}: {error.message}", error.fix)
        return None
    if expression.kind not in kinds:
        document.error(at, f"{text!r} is a {expression.kind}, not a {' or '.join(kinds)}", "compare it with something")
    return expression


def _known(name: str, known: Iterable[str], what: str, at: Path_, document: Document) -> bool:
    names = list(known)
    if name not in names:
        document.error(at, f"unknown {what} {name!r}", near(name, names))
    return name in names
