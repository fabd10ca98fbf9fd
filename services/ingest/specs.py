"""Which applied specs are followed: what is in the log every life of every fold must be able to follow, for ever."""

from __future__ import annotations

from collections.abc import Iterator

from services.ingest.step import compiled
from tidemill.errors import Rejected
from tidemill.events.folded import FOLD_TYPES
from tidemill.events.plain import check_schema, full_name
from tidemill.events.spec import Applied
from tidemill.features import plan
from tidemill.spec import Bundle
from tidemill.spec.checks import check_model, check_stream
from tidemill.spec.files import Document


def followed(said: Applied, before: Bundle | None) -> Bundle:
    """The spec of the event, `before` being the one that the stream follows so far.

    Raises Rejected where it is of a newer version, forged, or not one that `tidemill apply` would have published.
    """
    try:
        bundle = Bundle.applied(said.stream, said.content)
        for fault in _faults(said, bundle, before):
            raise Rejected("bad-spec", fault)
        for schema in bundle.schemas.values():
            check_schema(schema)
        for finding in _findings(bundle):
            raise Rejected("bad-spec", finding)
        again = Bundle.from_json(bundle.to_json())  # as folds get it
        compiled(again)
        plan.compile(again)
    except Rejected:
        raise
    except Exception as error:  # whatever it is: it would be every fold's, again and again
        raise Rejected("bad-spec", f"{type(error).__name__}: {str(error)[:500]}") from error
    return bundle


def _faults(said: Applied, bundle: Bundle, before: Bundle | None) -> Iterator[str]:
    """What the event and the log say otherwise, and what the bundle lacks."""
    stream = bundle.stream
    if bundle.digest != said.digest:
        yield f"its digest is {bundle.digest}, not {said.digest}"
    if before is not None and stream.shards != before.stream.shards:
        yield f"the log has {before.stream.shards} shards for its life, not {stream.shards}"
    if lacking := stream.sources.keys() ^ bundle.schemas.keys():
        yield f"sources and schemas are not the same: {', '.join(sorted(lacking))}"
    if lacking := _named(bundle) - bundle.ids.keys():
        yield f"it has no schema id of {', '.join(sorted(lacking))}"


def _named(bundle: Bundle) -> set[str]:
    """Whose schema ids folds need."""
    vectors = {f"vector:{trigger}" for trigger in bundle.stream.triggers}
    return vectors | bundle.stream.sources.keys() | {kind.full_name() for kind in FOLD_TYPES}


def _findings(bundle: Bundle) -> Iterator[str]:
    """What `tidemill validate` would say of the files."""
    records: dict[str, str] = {}
    for source, schema in bundle.schemas.items():
        name = full_name(schema)
        if name.startswith("tidemill.") or bundle.schemas[records.setdefault(name, source)] != schema:
            yield f"source {source!r} takes {name}, which is another record"
    document = Document("spec")
    check_stream(bundle, document)
    for name, model in bundle.models.items() if not document.errors else ():
        if name != model.model:
            yield f"model {model.model!r} stands under {name!r}"
        check_model(bundle, model, document)
    yield from (str(error) for error in document.errors)
