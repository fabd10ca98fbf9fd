"""A small control service of the tests, run as a process of its own: it counts requests per model and says each number twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tidemill.bus.control import ControlService, Due, Meta, Parked, Saying, Timer, Transaction, run
from tidemill.errors import Rejected
from tidemill.events.training import RetrainRequested, RunDeclined, RunFailed
from tidemill.settings import Settings

TABLE = "create table counts (model text primary key, number int not null); create table timers (subject text, cause text)"


@dataclass(frozen=True)
class Ports:
    tx: Transaction

    @property
    def meta(self) -> Meta:
        return self.tx.meta

    def add(self, model: str) -> int:
        row = self.tx.execute(
            "insert into counts values (%s, 1) on conflict (model) do update set number = counts.number + 1 returning number",
            (model,),
        ).fetchone()
        assert row is not None
        return int(row[0])

    def count(self, model: str) -> int:
        row = self.tx.execute("select number from counts where model = %s", (model,)).fetchone()
        return int(row[0]) if row else 0


def declined(event: RetrainRequested | RunFailed, number: int, reason: str) -> RunDeclined:
    return RunDeclined(
        stream=event.stream, model=event.model, cause_kind="manual", cause_id="toy", position=number, at_time=0, reason=reason
    )


def on_retrain_requested(event: RetrainRequested, ports: Ports) -> list[Saying]:
    number = ports.add(event.model)
    if event.reason == "refuse":
        raise Rejected("toy-refuses", "as asked")
    if event.reason == "timer":
        return [Timer("bell", event.model, ports.meta.now + 200_000, "ding")]
    return [declined(event, number, f"{event.reason} a"), declined(event, number, f"{event.reason} b")]


def on_run_failed(event: RunFailed, ports: Ports) -> list[Saying]:
    """Rests on a request of its model."""
    if not ports.count(event.model):
        raise Parked(f"a request for {event.model}")
    return [declined(event, ports.count(event.model), "parked no more")]


def on_bell(due: Due, ports: Ports) -> Sequence[Saying]:
    ports.tx.execute("insert into timers values (%s, %s)", (due.subject, ports.meta.id))
    return [
        RunDeclined(stream="toy", model=due.subject, cause_kind="manual", cause_id="toy", position=0, at_time=0, reason=due.payload)
    ]


def toy() -> ControlService:
    return ControlService(
        name="toy",
        handlers={RetrainRequested: on_retrain_requested, RunFailed: on_run_failed},
        ports=Ports,
        timers={"bell": on_bell},
        migrations=[TABLE],
    )


if __name__ == "__main__":
    run(toy(), Settings.load())
