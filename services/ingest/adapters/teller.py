"""What a step said goes out: dead letters before the log, the log, then answers, switches, figures, snapshots."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from functools import partial

from services.ingest.adapters.answers import Answer
from services.ingest.adapters.judged import Judged
from services.ingest.adapters.letters import letter
from services.ingest.adapters.log import LogWriter, Told
from services.ingest.adapters.replies import Address, Replies, addressed
from services.ingest.adapters.shelf import States
from services.ingest.adapters.switches import Switches
from services.ingest.adapters.traces import around, traced
from services.ingest.model import Arrival, Dead, RawRows, State, Switched
from services.ingest.settings import Limits
from services.ingest.step import Output, Plan, Records, Repeats
from tidemill import telemetry
from tidemill.bus import metrics


class Teller:
    """The output side of one shard. Not for several threads."""

    def __init__(
        self, state: State, writer: LogWriter, states: States, switches: Switches, replies: Replies, limits: Limits, judged: Judged
    ) -> None:
        self._state, self._writer, self._states = state, writer, states
        self._switches, self._replies, self._limits, self._judged = switches, replies, limits, judged
        self._stored = (state.seq, time.monotonic())
        self._traces: list[str] = []
        """`traceparent`s of this round's sampled events."""

    def control(self, records: Records) -> None:
        """One control record; the broker has it when this returns."""
        self._append_control(records, self._state.offset - 1)
        self._writer.flush()

    def tell(self, out: Output, plan: Plan, arrivals: Sequence[Arrival], asked: int, polled: int) -> None:
        """All that one step said about these arrivals, which were asked for at `asked` and there at `polled` (ns).

        The broker is to have all that was told before. Raises DeliveryError, Transient, TooManyDead.
        """
        stepped = telemetry.now()
        self._judged.keep()
        self._bury(out.dead, polled)
        place = self._state.offset - sum(len(records.values) for records in out.records)
        for records in out.records:
            self._append(records, plan, place, polled)
            place += len(records.values)
        self._writer.go()
        self._repeat(out.repeats, plan)
        for switch, reason in out.refused:
            self._switches.refused(switch.event, self._state, reason)
        around(self._state.stream, self._state.shard, self._traces, asked, polled, stepped)
        self._traces.clear()
        self._count(out, arrivals)
        self._judged.count(out.read, len(out.dead))  # where that stops the process, nothing of it is kept: the next life stops too
        self._tidy()
        self._judged.note(self._state, self._writer.newest)

    def drain(self, seconds: float) -> None:
        """Have the broker take all that was said, and keep a snapshot and the places in the raw topics."""
        if self._writer.flush(seconds):
            self._store()
            self._judged.rest(self._state, self._writer.newest)

    def _bury(self, dead: list[Dead], polled: int) -> None:
        if not dead:
            return
        self._writer.bury([letter(one, self._state.stream, polled // 1000) for one in dead])
        for i, to in addressed([one.origin for one in dead]).items():
            self._replies.tell(to, Answer("rejected", reason=dead[i].reason, message=dead[i].message))
        for one in dead:
            metrics.DEAD.labels(self._topic(one.lane.source), one.reason).inc()

    def _append(self, records: Records, plan: Plan, place: int, polled: int) -> None:
        if records.switch is not None:
            self._append_switch(records, place)
        elif records.rows is None:
            self._append_control(records, place)
        else:
            rows = records.rows
            traces = traced(rows, rows.ident ^ plan.salts[rows.source], self._state.stream, plan.names, polled)
            self._traces += traces.values()
            self._send(records, place, traces, self._awaited(rows))

    def _append_control(self, records: Records, place: int) -> None:
        with telemetry.control_span(
            "append control record", attributes={"tidemill.stream": self._state.stream}, kind="producer"
        ) as span:
            self._send(records, place, {0: span.traceparent}, {})

    def _append_switch(self, records: Records, place: int) -> None:
        assert records.switch is not None
        switch, offsets = records.switch.event, list[int]()
        with self._switches.span(switch) as span:
            self._send(records, place, {0: span.traceparent}, {0: offsets.append})
            self._writer.flush()
            span.set({"tidemill.position": offsets[0]})
            found = Switched(switch, offsets[0], int(records.headers["stream"][0]))
            self._switches.appended(found, self._state.shard, span)

    def _send(self, records: Records, place: int, traces: dict[int, str], told: dict[int, Told]) -> None:
        self._writer.append(records, place, traces, told)
        metrics.WRITTEN.labels(self._writer.topic).inc(len(records.values))

    def _awaited(self, rows: RawRows) -> dict[int, Told]:
        """Whom to tell which rows are in the log."""
        return {i: partial(self._accepted, to) for i, to in addressed(rows.origins).items()}

    def _accepted(self, to: Address, offset: int) -> None:
        self._replies.tell(to, Answer("accepted", self._state.shard, offset))

    def _repeat(self, repeats: list[Repeats], plan: Plan) -> None:
        for part in repeats:
            for source, count in Counter(part.rows.source.tolist()).items():
                metrics.DUPLICATES.labels(self._topic(plan.names[source])).inc(count)
            self._answer_repeats(part)

    def _answer_repeats(self, part: Repeats) -> None:
        waiting = addressed(part.rows.origins)
        if waiting:
            self._writer.flush()  # the first of them may be on its way
        for i, to in waiting.items():
            self._replies.tell(to, Answer("duplicate", self._state.shard, int(part.original[i])))

    def _count(self, out: Output, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            topic = self._topic(arrival.lane.source)
            metrics.READ.labels(topic).inc(len(arrival.values))
            metrics.LATENCY.labels(topic).observe(max(0.0, time.time() - float(arrival.times[0]) / 1e6))
        for (source, check), count in out.warned.items():
            metrics.WARNED.labels(self._topic(source), check).inc(count)

    def _tidy(self) -> None:
        """Hear of deliveries, mind where the records went, keep a snapshot now and then."""
        self._writer.poll()
        if self._writer.shifted:
            self._writer.flush()
            self._state.offset, self._writer.shifted = self._writer.acked + 1, False
        seq, at = self._stored
        new, old = self._state.seq - seq, time.monotonic() - at
        if new >= self._limits.snapshot_records or (new and old >= self._limits.snapshot_seconds):
            self._writer.flush()
            self._store()

    def _store(self) -> None:
        if self._state.seq > self._stored[0]:
            self._states.put(self._state, self._writer.topic, self._writer.newest)
        self._stored = (self._state.seq, time.monotonic())

    def _topic(self, source: str) -> str:
        return f"raw.{self._state.stream}.{source}"
