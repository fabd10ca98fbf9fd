"""From a stack's topics to the demonstration's figures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from confluent_kafka import Message

from tidemill.bus.consumer import read_to_end
from tidemill.bus.control_client import read_all
from tidemill.demo import ledger, summary
from tidemill.demo.summary import Champion, Events, Position, Scene, Summary
from tidemill.events import governance, ingest, log_header, monitoring, training
from tidemill.events.base import Event
from tidemill.events.deadletters import DeadLetter
from tidemill.events.identity import hash64
from tidemill.events.registry import VersionRegistered
from tidemill.events.schema_registry import Registry
from tidemill.models.kinds import Kind
from tidemill.settings import Settings
from tidemill.spec import Bundle
from tidemill.trust.keys import KeyRing

Structs = npt.NDArray[np.void]
_CONTROL = (
    training.RunRequested,
    VersionRegistered,
    governance.ApprovalDecided,
    ingest.SwitchAppended,
    monitoring.AlertRaised,
    DeadLetter,
)


@dataclass(frozen=True)
class Clock:
    """Seconds that the replay took, and those of them in which no decision was waited for."""

    total: float
    flowing: float


@dataclass(frozen=True)
class Topics:
    """What the data plane's topics hold; predictions and shadow predictions of one model alone."""

    raw: dict[str, ledger.RawTopic]
    """By source, in the spec's order."""
    log: ledger.Log
    features: dict[Kind, Structs]
    predictions: pl.DataFrame
    shadows: pl.DataFrame

    @classmethod
    def read(cls, settings: Settings, registry: Registry, bundle: Bundle, model: str) -> Topics:
        """All of them, up to their present ends."""

        def read(topic: str) -> Iterator[list[Message]]:
            return read_to_end(settings, topic)

        stream = bundle.stream.stream
        return cls(
            raw={source: ledger.read_raw(read, f"raw.{stream}.{source}", registry) for source in bundle.stream.order},
            log=ledger.read_log(read, f"log.{stream}"),
            features=ledger.read_features(read, f"features.{stream}", registry),
            predictions=ledger.read_predictions(read, f"predictions.{stream}").filter(pl.col("model") == model),
            shadows=ledger.read_predictions(read, f"shadow-predictions.{stream}").filter(pl.col("model") == model),
        )

    def about(self, record: str, model: str) -> Structs:
        """The rows of a record type (`Outcome`, `Unlabelled`) that are about one model."""
        mine = [rows[rows["model"] == hash64(model.encode())] for kind, rows in self.features.items() if kind.record == record]
        return np.concatenate(mine) if mine else np.zeros(0, np.void)


def gather(settings: Settings, bundle: Bundle, model: str, clock: Clock) -> tuple[Summary, Scene]:
    """Read everything. Counts, order, quality and latency are computed from the records, and every switch's decision is verified.

    Causes, rows, approvers and a version's own metrics are what the control events say.
    """
    spec, stream, registry = bundle.models[model], bundle.stream.stream, Registry(settings.schema_registry)
    topics = Topics.read(settings, registry, bundle, model)
    holding = topics.log.holding(stream, registry, KeyRing.load(settings.trust_dir))
    control = Control.read(settings, stream, model, holding)
    source = spec.trigger_source(bundle)
    triggers = (topics.log.rows["kind"] == log_header.EVENT) & (topics.log.rows["source"] == bundle.stream.order.index(source))
    outcomes = topics.about("Outcome", model)
    labels = _outcomes(outcomes)
    both = summary.compared(topics.predictions, topics.shadows, labels, control.first)
    found = Summary(
        events=_events(stream, topics, control),
        inversions=topics.log.inversions,
        triggers=int(triggers.sum()),
        vectors=sum(len(rows) for kind, rows in topics.features.items() if kind.vector and kind.asks(spec)),
        predictions=len(topics.predictions),
        outcomes=len(outcomes),
        unlabelled=len(topics.about("Unlabelled", model)),
        models=control.champions,
        alerts=control.alerts,
        runs=control.runs,
        year=summary.comparison(both),
        monthly=summary.by_month(both),
        seconds=clock.total,
        events_per_second=topics.log.events / max(clock.flowing, 1e-9),
        latency_ms=_latency(topics.raw[source].appended, topics.log, triggers, topics.predictions),
    )
    return found, _scene(model, topics.predictions, labels, control)


def _events(stream: str, topics: Topics, control: Control) -> Events:
    """Where every raw event ended."""
    dead = {source: control.dead(f"raw.{stream}.{source}") for source in topics.raw}
    rest = [topic.rest(topics.log.raw_offsets(number), dead[source]) for number, (source, topic) in enumerate(topics.raw.items())]
    return Events(
        raw={source: len(topic.events) for source, topic in topics.raw.items()},
        log=topics.log.events,
        control=len(topics.log.rows) - topics.log.events,
        dead_letters=sum(map(len, dead.values())),
        duplicates=sum(repeats for repeats, _ in rest),
        lost=sum(lost for _, lost in rest),
    )


def _scene(model: str, predictions: pl.DataFrame, labels: pl.DataFrame, control: Control) -> Scene:
    times = predictions["event_time"]
    begin, end = (int(times.min()), int(times.max())) if len(times) else (0, 0)  # type: ignore[arg-type]
    return Scene(model, begin, end, control.serves_from, summary.example(predictions, labels))


@dataclass(frozen=True)
class Control:
    """What the control plane did for one model."""

    champions: list[Champion]
    serves_from: dict[int, int]
    """By version, the event time of its switch, us."""
    alerts: int
    runs: int
    letters: dict[str, set[int]]
    """By raw topic, the offsets of dead letters."""

    def dead(self, topic: str) -> ledger.I8:
        """The offsets of a raw topic's dead letters."""
        return np.array(sorted(self.letters.get(topic, ())), np.int64)

    @property
    def first(self) -> int | None:
        """The first version that served."""
        return self.champions[0].version if self.champions else None

    @classmethod
    def read(cls, settings: Settings, stream: str, model: str, holding: Collection[tuple[str, int, int]]) -> Control:
        """From the control topics; an event that a killed speaker repeated counts once.

        `holding`: (model, version, offset) of the switches in the log whose decision verifies.
        """
        heard = {one.envelope.id: one.event for one in read_all(settings, _CONTROL)}
        mine = [
            event
            for event in heard.values()
            if (getattr(event, "model", model), getattr(event, "stream", stream)) == (model, stream)
        ]
        return cls(
            champions=_champions(mine, holding),
            serves_from={event.version: event.effective_at for event in mine if isinstance(event, ingest.SwitchAppended)},
            alerts=_count(mine, monitoring.AlertRaised),
            runs=_count(mine, training.RunRequested),
            letters=_letters(heard.values()),
        )


def _letters(said: Iterable[Event]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for event in said:
        if isinstance(event, DeadLetter):
            found.setdefault(event.topic, set()).add(event.offset)
    return found


def _champions(said: list[Event], holding: Collection[tuple[str, int, int]]) -> list[Champion]:
    versions = {event.version: event for event in said if isinstance(event, VersionRegistered)}
    causes = {event.run: event for event in said if isinstance(event, training.RunRequested)}
    decided = {
        event.version: event for event in said if isinstance(event, governance.ApprovalDecided) and event.verdict == "approved"
    }
    switches = sorted((event for event in said if isinstance(event, ingest.SwitchAppended)), key=lambda event: event.rollout)
    return [
        Champion(
            version=switch.version,
            cause=f"{causes[switch.run].cause_kind}: {causes[switch.run].cause_detail} ({causes[switch.run].cause_id})",
            rows=versions[switch.version].rows,
            auc=versions[switch.version].metrics["auc"],
            approved_by=decided[switch.version].approvers,
            switched_at=Position(partition=switch.partition, offset=switch.offset),
            verified=(switch.model, switch.version, switch.offset) in holding,
        )
        for switch in switches
    ]


def _count(said: list[Event], kind: type[Event]) -> int:
    return sum(isinstance(event, kind) for event in said)


def _outcomes(rows: Structs) -> pl.DataFrame:
    """Each outcome as its trigger's position and its label."""
    if not len(rows):
        return pl.DataFrame(schema={"position": pl.Float64, "label": pl.Float64})
    return pl.DataFrame({"position": rows["trigger_position"], "label": rows["label"]})


def _latency(raw: ledger.I8, log_: ledger.Log, triggers: npt.NDArray[np.bool_], predictions: pl.DataFrame) -> summary.Latency:
    """From each trigger's append to its raw topic to the append of its prediction."""
    begun = pl.DataFrame({"position": log_.offsets[triggers].astype(np.float64), "begun": raw[log_.rows["raw_offset"][triggers]]})
    joined = predictions.join(begun, on="position")
    return summary.latency(joined["begun"].to_numpy(), joined["appended"].to_numpy())
