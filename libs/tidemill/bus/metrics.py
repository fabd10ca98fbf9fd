"""Every metric there is, in one place, so that no dashboard has to guess a name."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_FAST: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1, 5, 30)

READ: Final = Counter("tidemill_records_read", "Records taken from a topic and folded", ["topic"])
DROPPED: Final = Counter(
    "tidemill_records_dropped", "Records of a topic that do not count: void, repeated, foreign", ["topic", "reason"]
)
WRITTEN: Final = Counter("tidemill_records_written", "Records sent to a topic", ["topic"])
SUPPRESSED: Final = Counter(
    "tidemill_records_suppressed", "Records that the topic had already when they were made again", ["topic"]
)
FAILED: Final = Counter("tidemill_records_failed", "Records that say that their position yielded no result", ["topic"])
DEAD: Final = Counter("tidemill_dead_letters", "Records that could not be taken", ["topic", "reason"])
DUPLICATES: Final = Counter("tidemill_duplicates", "Records of a raw topic that the log has already", ["topic"])
WARNED: Final = Counter("tidemill_check_warnings", "Events that failed a check that only warns", ["topic", "check"])
LAG: Final = Gauge("tidemill_lag_records", "Records of a partition that are still to be read", ["topic", "partition"])
LATENCY: Final = Histogram(
    "tidemill_latency_seconds",
    "From the broker's append of a batch's first record to the sending of what it caused",
    ["topic"],
    buckets=_FAST,
)
STEP: Final = Histogram("tidemill_step_seconds", "Duration of one step of the fold", buckets=_FAST)
BATCH: Final = Histogram("tidemill_batch_records", "Records in one step", buckets=(1, 4, 16, 64, 256, 1024, 4096, 16384))
SNAPSHOT: Final = Histogram("tidemill_snapshot_seconds", "Writing of one snapshot", buckets=_FAST)
SNAPSHOT_BYTES: Final = Gauge("tidemill_snapshot_bytes", "Size of the newest snapshot", ["stream", "partition"])
IGNORED: Final = Counter("tidemill_snapshots_ignored", "Snapshots that were not used at a start", ["reason"])
SWITCHES_IGNORED: Final = Counter(
    "tidemill_switches_ignored", "Switches in the log that serving ignores, because they do not hold", ["stream", "reason"]
)
REFERENCES_MISSING: Final = Counter(
    "tidemill_references_missing",
    "Artifacts named by a switch whose training reference cannot be read: of a champion among them no drift is told",
    ["stream", "reason"],
)
SPECS_REFUSED: Final = Counter(
    "tidemill_specs_refused",
    "Applied specs that ingest does not follow, since folds could not: the stream keeps the one before",
    ["stream"],
)
RETRIES: Final = Counter("tidemill_retries", "Attempts that were put off because something was away")
