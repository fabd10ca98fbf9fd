"""When the log gets a spec anew."""

from __future__ import annotations

from services.ingest.model import Lane
from services.ingest.step import adopt, adopted
from tests.unit.ingest.world import IDS, Log, Writer, bundle


def test_a_spec_is_adopted_again_only_with_another_content_or_other_schema_ids() -> None:
    state = Writer(Log(), bundle(), (Lane("a", 0),)).shard.state
    renamed = bundle().model_copy(update={"author": "ann"})
    assert adopted(state, bundle()) and adopted(state, renamed)
    assert not adopted(state, bundle(dedupe="3d"))
    other = bundle(ids={**IDS, "tidemill.predictions.Prediction": 99})
    assert other.digest == bundle().digest
    assert not adopted(state, other)
    adopt(state, other)
    assert adopted(state, other)
