"""One model for everybody: 200 trees over the delay, the distance, the hour, and the one-hour mean per origin."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from tidemill.bus.control_client import Follower, Publisher
from tidemill.events.fixed import dtype_of
from tidemill.events.governance import RolloutOrdered
from tidemill.events.ingest import SwitchAppended
from tidemill.features.vector import vector_schema
from tidemill.models import artifact
from tidemill.models.encode import Encoding
from tidemill.models.reference import Reference
from tidemill.models.trees import DMatrix, train
from tidemill.settings import Settings
from tidemill.spec import Bundle
from tidemill.store import Store
from tidemill.trust import dsse, keys
from tidemill.trust.statement import Decision, Statement

MODEL, GROUP, NAME = "late-arrival", "ops-review", "bench"
FEATURES = ["event__dep_delay", "event__distance", "event__sched_hour", "origin_traffic__delay_mean__1h"]
TILE, TILES = 300_000_000, 12


def usecase(source: Path, into: Path, stream: str) -> Path:
    """A copy of the use case under another stream's name. A live stream's events are of today."""
    folder = into / stream
    shutil.copytree(source, folder)
    for file, line in (("stream.yaml", "stream: "), ("models/late-arrival.yaml", "trigger: ")):
        text = (folder / file).read_text()
        assert f"\n{line}flights" in text, f"{file} names its stream no more as {line!r}"
        (folder / file).write_text(text.replace(f"\n{line}flights", f"\n{line}{stream}"))
    return folder


def matrix(departures: pd.DataFrame) -> np.ndarray:
    """The four features of departures in known-time order, by the same arithmetic as everybody's."""
    tiles: dict[str, dict[int, list[float]]] = {}
    means = np.full(len(departures), np.nan)
    for at, (origin, time_, delay) in enumerate(zip(departures.origin, departures.departed_at, departures.dep_delay, strict=True)):
        mine, tile = tiles.setdefault(origin, {}), time_ // TILE
        found = [mine[one] for one in range(tile - TILES + 1, tile + 1) if one in mine]
        count = sum(entry[1] for entry in found)
        means[at] = sum(entry[0] for entry in found) / count if count else np.nan
        entry = mine.setdefault(tile, [0.0, 0.0])
        entry[0] += delay
        entry[1] += 1.0
    return np.column_stack([departures.dep_delay, departures.distance, departures.sched_hour, means]).astype(np.float32)


def trees(sources: dict[str, pd.DataFrame]) -> bytes:
    """The model, trained on the first 60,000 departures."""
    departures = sources["departures"].sort_values(["departed_at", "flight_id"]).head(60_000)
    late = sources["arrivals"].set_index("flight_id").arr_delay > 15
    labels = departures.flight_id.map(late).fillna(False).astype(np.float32)
    data = DMatrix(matrix(departures), label=labels.to_numpy(), feature_names=FEATURES, nthread=1)
    booster = train(
        {"objective": "binary:logistic", "tree_method": "hist", "max_depth": 6, "eta": 0.1, "nthread": 1, "seed": 7}, data, 200
    )
    return bytes(booster.save_raw("ubj"))


def seat(settings: Settings, bundle: Bundle, model: bytes, trust: Path) -> None:
    """Order the model into service, signed, and return when the switch stands in the stream's log."""
    stream = bundle.stream.stream
    rows = np.zeros(100, dtype_of(vector_schema(bundle, "departure")))
    encoding = Encoding.fit(rows, FEATURES, model=MODEL, trigger=f"{stream}.departure", threshold=0.5)
    reference = Reference.of(rows, FEATURES, FEATURES, {})
    files = {
        artifact.MODEL: model,
        artifact.ENCODING: encoding.to_json(),
        artifact.REFERENCE: reference.to_json(),
        artifact.REPORT: b"{}",
    }
    store = Store(settings.store_url)
    digest, report, expires = store.put_tree(files), store.put(b"{}"), (time.time_ns() // 1000) + 10**12
    decision = Decision(
        stream=stream, model=MODEL, version=1, report=report, action="promote", rollout=1, effective_at=0,
        approval=f"bench-{stream}", run="bench", requester="nobody", author="nobody", expires=expires, reason="benchmark",
    )  # fmt: skip
    envelope = dsse.sign(Statement.of(digest, decision).text().encode(), keys.load_private(trust / "private" / f"{NAME}.pem"), NAME)
    order = RolloutOrdered(
        order=f"order-{stream}", stream=stream, model=MODEL, version=1, run="bench", artifact=digest, report=report, action="promote",
        rollout=1, fallback=None, group=GROUP, required=1, requester="nobody", author="nobody", approval=f"bench-{stream}",
        effective_at=0, expires=expires, envelopes=[envelope],
    )  # fmt: skip
    with Follower(settings, [SwitchAppended], "begin") as follower, Publisher(settings, "bench") as publisher:
        publisher.publish(order)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if any(heard.event.stream == stream for heard in follower.poll(0.2) if isinstance(heard.event, SwitchAppended)):
                return
    sys.exit(f"the switch of {stream} did not come; see the logs of ingest and serving")
