"""The record types of folds."""

from __future__ import annotations

from typing import Final

from tidemill.events import features, feed, log, predictions, progress
from tidemill.events.base import Event

FOLD_TYPES: Final[tuple[type[Event], ...]] = (
    log.Barrier,
    log.SpecAdopted,
    log.ModelSwitched,
    log.Progressed,
    feed.Progressed,
    features.Outcome,
    features.Unlabelled,
    features.Failed,
    predictions.Prediction,
    progress.Progress,
)
"""What folds read and write beside a use case's own records: their ids are in the bundle, so that no fold asks anyone."""
