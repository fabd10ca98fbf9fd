"""A writer's state as arrays and plain JSON, and back."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from services.ingest import model
from services.ingest.model import Lane, State, Switched
from services.ingest.step import ids
from tidemill.bus.fold import Snapshot
from tidemill.code import code_digest
from tidemill.events.log import ModelSwitched
from tidemill.spec import Bundle

CODE = ("services.ingest.model", "services.ingest.step")
"""What decides a state, and how it is written down."""

_PLAIN = ("stream", "shard", "writer", "seq", "offset", "time", "known", "newest", "promised", "replaying")


def dump(state: State) -> Snapshot:
    """The state, in copies: it goes on while they are written."""
    meta: dict[str, Any] = {name: deepcopy(getattr(state, name)) for name in _PLAIN}
    meta["lanes"] = [[*lane, offset, state.floor.get(lane, model.NEVER)] for lane, offset in state.passed.items()]
    meta["last"] = list(state.last)
    meta["switches"] = [[one.event.model_dump(mode="json"), one.offset, one.time] for one in state.switches.values()]
    meta["bundle"] = state.bundle.to_json() if state.bundle else None
    return Snapshot({"ids": ids.live(state.ids)}, meta)


def load(snapshot: Snapshot) -> State:
    """The state of `dump`."""
    meta = snapshot.meta
    switches = [Switched(ModelSwitched.model_validate(event), offset, time) for event, offset, time in meta["switches"]]
    return State(
        **{name: meta[name] for name in _PLAIN},
        passed={Lane(source, number): offset for source, number, offset, _ in meta["lanes"]},
        floor={Lane(source, number): floor for source, number, _, floor in meta["lanes"] if floor != model.NEVER},
        last=tuple(meta["last"]),
        ids=ids.restored(snapshot.arrays["ids"]),
        switches={found.event.model: found for found in switches},
        bundle=Bundle.from_json(meta["bundle"]) if meta["bundle"] else None,
    )


def code() -> str:
    """The digest of what makes a state: a snapshot of other code is not used."""
    return code_digest(*CODE)
