"""R8: the order of the log, live and in a replay; and R5: a writer that dies changes nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.model import Arrival, Lane, Switch
from services.ingest.step import kernels
from services.ingest.step.ids import live
from tests.unit.ingest.world import NOW, NOWHERE, SECOND, Log, Writer, arrival, bundle, event, promise
from tidemill.events import log, log_header

Token = int | tuple[int, int] | tuple[int, int, float] | str
A0, A1, B0 = Lane("a", 0), Lane("a", 1), Lane("b", 0)
LANES = (A0, A1, B0)
BASE = 1_000_000_000


def at(second: int) -> int:
    return (BASE + second) * SECOND


def switch(model: str, second: int, rollout: int = 1, expires: int = NOW + SECOND) -> Switch:
    return Switch(
        log.ModelSwitched(
            seq=0, position=0, stream_time=0, stream="world", model=model, version=rollout, artifact="sha256:0", report="sha256:1",
            rollout=rollout, action="promote", order=f"o{rollout}", approval="p", run="r", effective_at=at(second), expires=expires, envelopes=[],
        )
    )  # fmt: skip


def fed(lanes: dict[Lane, list[Token]]) -> dict[Lane, list[bytes]]:
    """Raw lanes from tokens: an int is an event known at that second, a pair (second, number) one with an id that may repeat
    (with an amount: with other content), `|5` a promise until second 5, `|5!` the end."""
    return {lane: list(_values(lane, tokens)) for lane, tokens in lanes.items()}


def _values(lane: Lane, tokens: list[Token]) -> Iterator[bytes]:
    for n, token in enumerate(tokens):
        if isinstance(token, str):
            yield promise(lane.source, at(int(token[1:].rstrip("!"))), token.endswith("!"))
        elif isinstance(token, tuple):
            yield event(lane.source, f"{lane.source}-{token[1]}", at(token[0]), *token[2:])
        else:
            yield event(lane.source, f"{lane.source}{lane.partition}-{token}-{n}", at(token))


def rest(writer: Writer, raw: dict[Lane, list[bytes]]) -> list[Arrival]:
    """What a life that has just begun is given of each lane: all that it does not know as judged."""
    passed = writer.shard.state.passed
    return [arrival(lane, values[begin:], begin) for lane, values in raw.items() if (begin := passed.get(lane, 0)) < len(values)]


def test_a_replay_is_merged_by_known_time_whatever_comes_first() -> None:
    raw = fed({A0: ["|0", 1, 4, "|5"], B0: ["|0", 2, 3, "|5"]})
    writer = Writer(Log(), bundle(), (A0, B0))
    writer.take(arrival(A0, raw[A0]))
    assert [name for name in writer.log.order() if not name.startswith("|")] == []
    writer.take(arrival(B0, raw[B0]))
    assert [name.rpartition("-")[0] for name in writer.log.order() if "-" in name] == ["a0-1", "b0-2", "b0-3", "a0-4"]


def test_at_equal_times_the_spec_orders_sources_then_partitions() -> None:
    raw = fed({A0: ["|0", 1, "|2"], A1: ["|0", 1, "|2"], B0: ["|0", 1, "|2"]})
    writer = Writer(Log(), bundle(), LANES)
    writer.take(*(arrival(lane, raw[lane]) for lane in LANES))
    assert [name[:2] for name in writer.log.order() if "-" in name] == ["b0", "a0", "a1"]


def test_every_common_promise_stands_at_its_time_and_the_end_comes_once() -> None:
    raw = fed({A0: ["|0", 1, "|5", 6, "|9!"], B0: ["|0", 2, "|5", 7, "|9!"]})
    writer = Writer(Log(), bundle(), (A0, B0))
    writer.take(*(arrival(lane, raw[lane]) for lane in (A0, B0)))
    zero = at(0) // SECOND
    assert [name[:4] if "-" in name else name for name in writer.log.order()] == [
        f"|{zero}", "a0-1", "b0-2", f"|{zero + 5}", "a0-6", "b0-7", f"|{zero + 9}", "||",
    ]  # fmt: skip
    assert writer.log.rows["stream"][-1] == at(9)


def test_live_rows_go_at_once_but_not_past_a_lane_that_has_more() -> None:
    writer = Writer(Log(), bundle(), (A0, B0))
    writer.take(arrival(A0, fed({A0: [5]})[A0]), more={B0})
    assert writer.log.order() == []
    writer.take(arrival(B0, fed({B0: [3]})[B0]))
    assert [name[:4] for name in writer.log.order()] == ["b0-3", "a0-5"]


def test_at_equal_times_a_row_waits_for_a_lane_that_has_more_and_goes_first() -> None:
    writer = Writer(Log(), bundle(), (A0, B0))
    raw = fed({A0: [5], B0: [5, 5]})
    writer.take(arrival(B0, raw[B0][:1]), arrival(A0, raw[A0]), more={B0})
    assert [name[:2] for name in writer.log.order()] == ["b0"]
    writer.take(arrival(B0, raw[B0][1:], 1))
    assert [name[:2] for name in writer.log.order()] == ["b0", "b0", "a0"]


def test_a_row_does_not_wait_for_a_lane_that_goes_behind_it_at_equal_times() -> None:
    writer = Writer(Log(), bundle(), (A0, B0))
    raw = fed({A0: [5], B0: [5]})
    writer.take(arrival(B0, raw[B0]), arrival(A0, raw[A0]), more={A0})
    assert [name[:2] for name in writer.log.order()] == ["b0", "a0"]


def test_a_silent_lane_is_waited_for_once_per_idle_spell() -> None:
    writer = Writer(Log(), bundle(align_wait="2s"), (A0, B0))
    writer.take(arrival(B0, fed({B0: [3]})[B0]), now=NOW)
    writer.take(arrival(A0, fed({A0: [5]})[A0]), now=NOW + SECOND)
    assert [name[:4] for name in writer.log.order()] == ["b0-3"]
    writer.take(now=NOW + 2 * SECOND)
    assert [name[:4] for name in writer.log.order()] == ["b0-3", "a0-5"]


def test_after_the_end_of_a_replay_rows_are_live_again() -> None:
    raw = fed({A0: ["|0", 1, "|2!", 9], B0: ["|0", "|2!"]})
    writer = Writer(Log(), bundle(), (A0, B0))
    writer.take(arrival(A0, raw[A0]))
    writer.take(arrival(B0, raw[B0]))
    assert [name[:4] for name in writer.log.order()][-2:] == ["||", "a0-9"]


def test_history_after_live_traffic_is_a_replay_of_its_own_times() -> None:
    """Live events of today in one lane do not hold back yesterday's in the feed that begins later."""
    writer = Writer(Log(), bundle(), (A0, B0))
    raw = fed({A0: [9, "|0", 1, "|5", 6, "|9"], B0: ["|0", 2, "|5", 7, "|9"]})
    writer.take(arrival(A0, raw[A0][:1]))
    writer.take(arrival(A0, raw[A0][1:], 1), arrival(B0, raw[B0]))
    assert [name[:4] for name in writer.log.order() if "-" in name] == ["a0-9", "a0-1", "b0-2", "a0-6", "b0-7"]
    again = Writer(writer.log, bundle(), (A0, B0))
    again.take(arrival(A0, raw[A0][5:] + fed({A0: [10, "|12"]})[A0], 5), arrival(B0, [*raw[B0][4:], promise("b", at(12))], 4))
    assert [name[:4] for name in again.log.order() if "-" in name][-1] == "a0-1"
    assert len(again.log.events()) == 6


def test_a_switch_waits_for_its_time_in_a_replay_and_stands_behind_the_promise() -> None:
    writer = Writer(Log(), bundle(), (A0, B0))
    raw = fed({A0: ["|0", 1, "|5", 5, "|9"], B0: ["|0", 2, "|5", "|9"]})
    writer.take(arrival(A0, raw[A0][:2]), arrival(B0, raw[B0][:2]), switches=[switch("m", 5)])
    assert "+m" not in writer.log.order()
    writer.take(arrival(A0, raw[A0][2:], 2), arrival(B0, raw[B0][2:], 2), switches=[switch("m", 5)])
    assert [name[:4] if "-" in name else name for name in writer.log.order()][1:6] == [
        "a0-1",
        "b0-2",
        f"|{at(5) // SECOND}",
        "+m",
        "a0-5",
    ]


def test_a_switch_that_is_due_where_the_replay_ends_goes_in_once() -> None:
    writer = Writer(Log(), bundle(), (A0, B0))
    raw = fed({A0: ["|0", 1, "|5!"], B0: ["|0", 2, "|5!"]})
    out = writer.take(arrival(A0, raw[A0]), arrival(B0, raw[B0]), switches=[switch("m", 10**6)])
    assert writer.log.order().count("+m") == 1
    assert out.refused == []


def test_a_switch_goes_in_at_once_where_no_feed_replays() -> None:
    writer = Writer(Log(), bundle(), (A0, B0))
    writer.take(switches=[switch("m", 10**6)])
    assert writer.log.order() == ["+m"]


def test_a_lower_rollout_and_an_expired_decision_are_refused_at_the_append() -> None:
    writer = Writer(Log(), bundle(), (A0,))
    writer.take(switches=[switch("m", 0, rollout=2)])
    out = writer.take(switches=[switch("m", 0, rollout=1), switch("n", 0, expires=NOW - 1)])
    assert [reason for _, reason in out.refused] == ["stale-rollout", "expired"]
    assert writer.log.order() == ["+m"]


def test_control_records_are_numbered_densely_with_the_events() -> None:
    raw = fed({A0: ["|0", 1, "|5", 6, "|9!"]})
    writer = Writer(Log(), bundle(), (A0,))
    writer.take(arrival(A0, raw[A0]), switches=[switch("m", 5)])
    assert writer.log.rows["seq"].tolist() == list(range(len(writer.log.headers)))
    assert writer.log.rows["kind"][:2].tolist() == [log_header.BARRIER, log_header.SPEC_ADOPTED]


def test_stream_time_is_the_minimum_of_sources_that_are_not_idle() -> None:
    writer = Writer(Log(), bundle(), (A0, B0))
    hour = kernels.IDLE // SECOND
    writer.take(arrival(B0, fed({B0: [0]})[B0]))
    writer.take(arrival(A0, fed({A0: [10, hour, hour + 1]})[A0]))
    assert [time - at(0) for *_, time, _, _ in writer.log.events()] == [0, 0, 0, (hour + 1) * SECOND]


def test_a_repeat_that_a_replay_has_passed_is_not_taken_after_a_restart_though_its_first_is_forgotten() -> None:
    """Ids are remembered for four seconds; the repeat is the last of its lane, and so is read again. The writer died before it said the
    promise that released these rows.
    """
    raw = fed({A0: ["|0", (0, 1), (0, 1), "|10"], A1: ["|0", 9, "|10"], B0: ["|0", 9, "|10"]})
    writer = Writer(Log(), bundle(dedupe="4s"), LANES)
    writer.take(*(arrival(lane, values) for lane, values in raw.items()))
    again = Writer(writer.log.prefix(len(writer.log.headers) - 1), bundle(dedupe="4s"), LANES)
    assert again.shard.state.passed[A0] == 2
    again.take(*rest(again, raw))
    assert again.log.order() == writer.log.order()


def test_nor_is_it_taken_where_the_log_has_the_promise_behind_it() -> None:
    raw = fed({A0: ["|0", (0, 1), (0, 1), "|10", "|12"], A1: ["|0", 9, "|10", "|12"], B0: ["|0", 9, "|10", "|12"]})
    writer = Writer(Log(), bundle(dedupe="4s"), LANES)
    writer.take(*(arrival(lane, values[:-1]) for lane, values in raw.items()))
    again = Writer(writer.log, bundle(dedupe="4s"), LANES)
    assert again.shard.state.passed[A0] == 2
    again.take(*rest(again, raw))
    assert again.log.content() == undisturbed(raw, "4s").log.content()


def test_what_is_read_again_in_several_steps_is_passed_in_each_of_them() -> None:
    raw = fed({A0: ["|0", (0, 1), (0, 1), "|10"], A1: ["|0", 9, "|10"], B0: ["|0", (1, 1), (1, 1), "|10"]})
    writer = Writer(Log(), bundle(dedupe="4s"), LANES)
    writer.take(*(arrival(lane, values) for lane, values in raw.items()))
    again = Writer(writer.log, bundle(dedupe="4s"), LANES)
    for piece in rest(again, raw):
        again.take(piece)
    assert again.log.content() == undisturbed(raw, "4s").log.content()


# -- any arrival, any restart ------------------------------------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn, ahead: int = 0, ended: bool = True) -> dict[Lane, list[Token]]:
    """What a feed may write: per lane stretches of rows in known order, some repeated, each stretch closed by a promise.

    Rows may be up to `ahead` seconds past the promise behind them.
    """
    ends = list(accumulate(draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))))
    lanes: dict[Lane, list[Token]] = {}
    for lane in LANES:
        tokens: list[Token] = ["|0"]
        begin = 0
        for end in ends:
            times = sorted(draw(st.lists(st.integers(begin, end - 1 + draw(st.integers(0, ahead))), max_size=6)))
            pairs = [(time, time * 2 + draw(st.integers(0, 1)) + 1000 * lane.partition) for time in times]
            tokens += pairs
            if pairs and draw(st.booleans()):
                tokens.append(draw(st.sampled_from(pairs)))
            if pairs and draw(st.booleans()):
                tokens.append((*draw(st.sampled_from(pairs)), 2.0))
            tokens.append(f"|{end}!" if ended and end == ends[-1] else f"|{end}")
            begin = end
        lanes[lane] = tokens
    return lanes


def deliveries(draw: st.DrawFn, raw: dict[Lane, list[bytes]], begin: dict[Lane, int]) -> Iterator[tuple[Lane, int, int]]:
    """An order in which the broker may hand the lanes over: (lane, from, to) pieces."""
    at = dict(begin)
    while open_ := [lane for lane in raw if at[lane] < len(raw[lane])]:
        lane = draw(st.sampled_from(open_))
        end = min(len(raw[lane]), at[lane] + draw(st.integers(1, 8)))
        yield lane, at[lane], end
        at[lane] = end


def undisturbed(raw: dict[Lane, list[bytes]], dedupe: str = "7d") -> Writer:
    writer = Writer(Log(), bundle(dedupe=dedupe), LANES)
    writer.take(*(arrival(lane, values) for lane, values in raw.items()))
    return writer


def buried(*lives: Writer) -> set[tuple[Lane, int, str]]:
    return {(dead.lane, dead.offset, dead.reason) for life in lives for dead in life.dead}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_arrival_of_a_replay_gives_the_same_log(data: st.DataObject) -> None:
    raw = fed(data.draw(histories()))
    writer = Writer(Log(), bundle(), LANES)
    for lane, begin, end in deliveries(data.draw, raw, dict.fromkeys(raw, 0)):
        writer.take(arrival(lane, raw[lane][begin:end], begin))
    assert writer.log.values == undisturbed(raw).log.values
    assert writer.log.rows.tobytes() == undisturbed(raw).log.rows.tobytes()
    assert buried(writer) == buried(undisturbed(raw))
    known = [row[3] for row in writer.log.events()]
    assert known == sorted(known)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_writer_that_dies_anywhere_leaves_the_log_as_if_it_had_lived(data: st.DataObject) -> None:
    dedupe = data.draw(st.sampled_from(["1s", "4s", "7d"]))
    # an id that is forgotten by the end of a replay and comes again once more after it is a new one: the log alone cannot tell
    raw = fed(data.draw(histories(ahead=2, ended=dedupe == "7d")))
    kept, places, lives = Log(), NOWHERE, []
    for _ in range(data.draw(st.integers(1, 3))):
        writer = Writer(kept, bundle(dedupe=dedupe), LANES, kept=places)
        begin = {lane: writer.shard.state.passed.get(lane, 0) for lane in raw}
        for lane, first, end in deliveries(data.draw, raw, begin):
            writer.take(arrival(lane, raw[lane][first:end], first))
            places = writer.places if data.draw(st.booleans()) else places
            if data.draw(st.integers(0, 5)) == 0:
                break
        lives.append(writer)
        kept = writer.log.prefix(data.draw(st.integers(max(2, places.count), len(writer.log.headers))))
    last = Writer(kept, bundle(dedupe=dedupe), LANES, kept=places)
    last.take(*rest(last, raw))
    assert last.log.content() == undisturbed(raw, dedupe).log.content()
    assert buried(*lives, last) == buried(undisturbed(raw, dedupe))
    assert last.log.rows["seq"].tolist() == list(range(len(last.log.headers)))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_the_state_that_a_log_restores_is_the_state_that_wrote_it(data: st.DataObject) -> None:
    raw = fed(data.draw(histories()))
    writer = Writer(Log(), bundle(dedupe="4s"), LANES)
    for lane, begin, end in deliveries(data.draw, raw, dict.fromkeys(raw, 0)):
        writer.take(arrival(lane, raw[lane][begin:end], begin))
    again, state = Writer(writer.log, bundle(dedupe="4s"), LANES).shard.state, writer.shard.state
    assert (again.time, again.known, again.newest, again.promised, again.replaying) == (
        state.time, state.known, state.newest, state.promised, state.replaying,
    )  # fmt: skip
    kept = lambda ids: {k: (c, o) for k, c, t, o in live(ids).tolist() if state.time - t <= 4 * SECOND}  # noqa: E731
    assert kept(again.ids) == kept(state.ids)
