"""A replay against a running stack: where it goes on, what it appends to, whom it hears."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from tidemill.bus.consumer import PATIENCE, read_to_end, reader, take, watermarks
from tidemill.bus.control_client import Follower, Heard
from tidemill.bus.producer import gapless
from tidemill.errors import Refused, Rejected
from tidemill.events import wire
from tidemill.events.base import Event
from tidemill.events.feed import Progressed
from tidemill.events.schema_registry import Registry
from tidemill.events.spec import Applied
from tidemill.feed import gate, timeline
from tidemill.feed.gate import FOREVER, Gate
from tidemill.feed.kafka import RawTopics
from tidemill.feed.replay import Replay, Sent
from tidemill.settings import Settings
from tidemill.spec import Bundle, load


class Session:
    """One replay of a use case's folder. Raises Refused where the use case was not applied as it is."""

    def __init__(self, settings: Settings, folder: Path, also: Sequence[type[Event]] = ()) -> None:
        """`also` are kinds of control events that the caller wants to see beside those the replay needs."""
        self.settings, self.bundle = settings, load(folder)
        self.stream = self.bundle.stream.stream
        self._registry = Registry(settings.schema_registry)
        self.applied = self._applied()
        ids = self.applied.ids
        self.timeline = timeline.load(folder, self.bundle, {source: wire.frame(ids[source], b"") for source in self.bundle.schemas})
        self._follower = Follower(settings, [*dict.fromkeys([*gate.HEARD, *also])], "begin", self._registry, self.stream)
        self.begin = self._goes_on_at()

    def run(
        self,
        until: int,
        hold: bool = True,
        allowed: Callable[[], int] = lambda: FOREVER,
        tell: Callable[[Sent, Gate], None] = lambda sent, gate: None,
        hear: Callable[[Heard], None] = lambda heard: None,
    ) -> Sent:
        """Replay up to `until` (event time, us); `hear` gets every control event as it comes."""

        def listen(wait: float) -> Iterable[Event]:
            heard = self._follower.poll(wait)
            for one in heard:
                hear(one)
            return [one.event for one in heard]

        windows = {name: model.monitors.window for name, model in self.bundle.models.items()}
        raw = RawTopics(gapless(self.settings, "feed"), self._registry, self.stream, self._partitions())
        replay = Replay(self.timeline, Gate(self.stream, windows, self.timeline.first), raw, listen, allowed, tell)
        return replay.run(self.begin, until, hold)

    def close(self) -> None:
        """Leave the broker."""
        self._follower.close()

    def _applied(self) -> Bundle:
        """The newest applied spec, which must be the folder's."""
        newest: Bundle | None = None
        with Follower(self.settings, [Applied], "begin", self._registry) as follower:
            while not follower.caught_up:
                for heard in follower.poll(1.0):
                    if isinstance(heard.event, Applied) and heard.event.stream == self.stream:
                        with suppress(Rejected):  # nobody could read it: the one before is in force
                            newest = Bundle.applied(self.stream, heard.event.content)
        if newest is None or newest.digest != self.bundle.digest:
            raise Refused(
                "not-applied", f"the spec of {self.stream} is not applied as it is in this folder; run `tidemill apply` first"
            )
        return newest

    def _partitions(self) -> dict[str, int]:
        consumer = reader(self.settings, "feed")
        try:
            return {source: len(watermarks(consumer, self._topic(source))) for source in self.bundle.stream.order}
        finally:
            consumer.close()

    def _goes_on_at(self) -> int:
        """The time up to which every source was promised; what came after its last promise is sent again, and known by its id."""
        promised = [self._promised(source) for source in self.bundle.stream.order]
        return min(promised) if promised else 0

    def _promised(self, source: str) -> int:
        topic, consumer = self._topic(source), reader(self.settings, "feed")
        try:
            places = watermarks(consumer, topic)
            if all(high == low for low, high in places.values()):
                return 0
            last = [
                _promise(_value_at(consumer, topic, number, high - 1), self._registry)
                for number, (low, high) in places.items()
                if high > low
            ]
        finally:
            consumer.close()
        if len(last) == len(places) and all(until is not None for until in last):
            return min(until for until in last if until is not None)
        newest = dict.fromkeys(places, 0)
        for message in (one for batch in read_to_end(self.settings, topic) for one in batch):
            if (until := _promise(message.value(), self._registry)) is not None:
                newest[message.partition() or 0] = max(newest[message.partition() or 0], until)
        return min(newest.values())

    def _topic(self, source: str) -> str:
        return f"raw.{self.stream}.{source}"


def _value_at(consumer: Consumer, topic: str, partition: int, offset: int) -> bytes | None:
    consumer.assign([TopicPartition(topic, partition, offset)])
    found = take(consumer, 1, PATIENCE)
    return found[0].value() if found else None


def _promise(value: bytes | None, registry: Registry) -> int | None:
    """The time that a promise names; None of another record."""
    try:
        said = wire.decode(value or b"", registry)
    except Rejected:
        return None
    return said.until if isinstance(said, Progressed) else None
