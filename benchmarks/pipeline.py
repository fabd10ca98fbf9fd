"""Tidemill against Quix Streams, Faust and the raw client: the same decode, a one-hour mean per origin, the same 200 trees.

One run, one broker. Everybody reads the first 150,000 log events of the flights and writes one prediction per departure, with its
state kept; the results are compared before any time counts. Tidemill does all 28 windows of the use case and two more hops meanwhile.
A rate is events over the time from the first to the last record that came out. The feature store's hop and the raw loop over it take turns,
each in a broker that has just started: half a second of either is at the mercy of the machine, so the median of a few counts. Last line: the
figures as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Producer

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.parts import fixed_model, peers_environment  # noqa: E402
from benchmarks.parts.measure import latencies, scores_of, span_of, total, wait  # noqa: E402
from benchmarks.parts.raw import LINGER, RAW_WARM, loop, make  # noqa: E402
from tidemill.bus.consumer import read_to_end  # noqa: E402
from tidemill.bus.producer import configuration  # noqa: E402
from tidemill.demo import ledger  # noqa: E402
from tidemill.events import log_header, wire  # noqa: E402
from tidemill.feed import timeline  # noqa: E402
from tidemill.feed.session import Session  # noqa: E402
from tidemill.settings import Settings  # noqa: E402
from tidemill.trust import keys  # noqa: E402

EVENTS = int(os.environ.get("PIPELINE_EVENTS", "150000"))
RATE, SECONDS = 500, 30
"""Of the latency part: events per second, seconds."""
WARM = RATE * 10
"""Of these, the first ones do not count: a broker that has just started compiles itself meanwhile."""
HOPS = ("hops1", "hops2", "hops3")
"""One stream for each turn of the feature store's hop and the raw loop."""
DATA_PLANE = "ingest,feature-store,serving"
PEERS = ROOT / "benchmarks" / "peers"


class Bench:
    """One data directory, one broker's data; started and ended with what a part needs."""

    def __init__(self, home: Path) -> None:
        self.home, self.trust = home, home / "trust"
        keys.generate(fixed_model.NAME, self.trust / "private", self.trust / "pinned" / fixed_model.GROUP)
        flights = ROOT / "usecases" / "flights"
        self.usecases = {
            stream: fixed_model.usecase(flights, home / "usecases", stream) for stream in ("first", "year", *HOPS, "live")
        }
        self.model = fixed_model.trees(timeline.module_of(flights).sources())
        (home / "model.ubj").write_bytes(self.model)

    @contextmanager
    def up(self, *options: str, streams: str = ".+") -> Iterator[Settings]:
        """The stack with some services, for some streams."""
        self.tidemill("up", "--detach", *options, streams=streams)
        try:
            yield Settings.load(self.home / "data")
        finally:
            self.tidemill("down")

    def tidemill(self, *words: str, streams: str = ".+") -> None:
        """One command."""
        environment = {**os.environ, "TIDEMILL_TRUST_DIR": str(self.trust / "pinned"), "TIDEMILL_STREAMS": streams}
        command = [sys.executable, "-m", "tidemill.cli.main", *words, "--data-dir", str(self.home / "data")]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Run all parts and print the figures."""
    home = Path(tempfile.mkdtemp(prefix="tidemill-bench-"))
    home.chmod(0o755)
    try:
        found = measure(Bench(home))
        print(json.dumps(found), flush=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def measure(bench: Bench) -> dict[str, Any]:
    """All parts, one after the other."""
    python = peers_environment.python(ROOT)
    with bench.up("--only", DATA_PLANE) as settings:
        for folder in bench.usecases.values():
            bench.tidemill("apply", str(folder), "--author", "nobody")
            fixed_model.seat(settings, _applied(settings, folder), bench.model, bench.trust)
    with bench.up("--no-services") as settings:
        departures = {
            stream: fill(settings, bench.usecases[stream], count)
            for stream, count in (("first", EVENTS), *((stream, EVENTS) for stream in HOPS), ("year", 0))
        }
    ours = end_to_end(bench, "first", departures["first"])
    year = end_to_end(bench, "year", departures["year"])
    hop, raw_hop, quick_hop = hops(bench, departures[HOPS[0]])
    our_latency = latency_ours(bench)
    with bench.up("--no-services") as settings:
        raw_latency, quick_latency = latency_raw(settings, bench), latency_raw(settings, bench, linger="0")
        job = prepare_peers(settings, bench, departures["first"])
        quix = peer(settings, job, [str(python), str(PEERS / "quix.py")], "peer-quix", departures["first"])
        faust = peer(
            settings, job, [str(python), str(PEERS / "faust_app.py"), "worker", "-l", "warn"], "peer-faust", departures["first"]
        )
        check(settings)
    return {
        "benchmark": "pipeline",
        "unit": "log events/s end to end; latency: ms at p99",
        "ours": round(ours),
        "ours_beside": {"year": round(year), "feature_hop": round(hop), "latency_ms": our_latency},
        "peers": {
            "quix": round(quix),
            "faust": round(faust),
            "raw_hop": round(raw_hop),
            "raw_hop_without_linger": round(quick_hop),
            "latency": raw_latency,
            "latency_without_linger": quick_latency,
        },
        "ratios": {
            "quix": round(ours / quix, 2),
            "faust": round(ours / faust, 2),
            "raw_hop": round(hop / raw_hop, 2),
            "raw_hop_without_linger": round(hop / quick_hop, 2),
            "latency": round(raw_latency["p99"] / our_latency["p99"], 2),
            "latency_without_linger": round(quick_latency["p99"] / our_latency["p99"], 2),
        },
        "checked": True,
    }


def fill(settings: Settings, folder: Path, events: int) -> int:
    """The first `events` (0: all) log events into a stream's raw topics; how many departures are among them."""
    session = Session(settings, folder)
    known = np.sort(np.concatenate([lane.known for lane in session.timeline.lanes]))
    try:
        sent = session.run(int(known[events]) if events else session.timeline.end, hold=False)
    finally:
        session.close()
    say(f"filled {session.stream}", events=sum(sent.events.values()))
    return sent.events["departures"]


def end_to_end(bench: Bench, stream: str, departures: int) -> float:
    """Log events per second, from the first event in the log to the last prediction."""
    with bench.up("--only", DATA_PLANE, streams=stream) as settings:
        wait(settings, f"predictions.{stream}", departures)
        found = ledger.read_log(lambda topic: read_to_end(settings, topic), f"log.{stream}")
        begin = int(found.offsets[found.rows["kind"] == log_header.EVENT][0])
        rate = (
            found.events
            / (span_of(settings, f"predictions.{stream}").last - span_of(settings, f"log.{stream}", begin).first)
            * 1000
        )
    say(f"ours, {stream}", events=found.events, per_second=rate)
    return rate


def hops(bench: Bench, departures: int) -> tuple[float, float, float]:
    """Log events per second of the feature store's hop, of the raw loop in the same place, and of that without linger: the medians."""
    with bench.up("--only", "ingest", streams="hops.") as settings:
        make(settings, RAW_WARM)
        for stream in HOPS:
            wait(settings, f"log.{stream}", EVENTS)
    rates = []
    for stream in HOPS:
        ours = feature_hop(bench, stream, departures)
        with bench.up("--no-services") as settings:
            rates.append((ours, raw_rate(settings, stream), raw_rate(settings, stream, linger="0")))
    ours, raw, quick = (statistics.median(column) for column in zip(*rates, strict=True))
    return ours, raw, quick


def feature_hop(bench: Bench, stream: str, departures: int) -> float:
    """The feature store alone on a log that is there already."""
    with bench.up("--only", "feature-store", streams=stream) as settings:
        wait(settings, f"features.{stream}", departures)
        wait_still(settings, f"features.{stream}")
        span = span_of(settings, f"features.{stream}", 3)
    say("our feature hop", per_second=span.rate(EVENTS), bytes=span.size)
    return span.rate(EVENTS)


def raw_rate(settings: Settings, stream: str, linger: str = LINGER) -> float:
    """The raw consume-produce loop over the same log, appending the same bytes as the feature store."""
    source, written, sink = f"log.{stream}", f"features.{stream}", f"raw-out-{stream}-linger-{linger}"
    make(settings, sink)
    with loop(settings, source, sink, written, linger=linger):
        wait(settings, sink, total(settings, written))
    rate = span_of(settings, sink).rate(EVENTS)
    say(f"raw hop, linger {linger}", per_second=rate)
    return rate


def latency_ours(bench: Bench) -> dict[str, float]:
    """Raw record's append to its prediction's, everything up, live events at RATE per second."""
    with bench.up(streams="live") as settings:
        live(settings, "raw.live.departures", _departures(settings, bench), "predictions.live")
        wait(settings, "predictions.live", RATE * SECONDS, 120)
        p50, p99 = latencies(settings, "raw.live.departures", "predictions.live", WARM)
    say("our latency", p50=p50, p99=p99)
    return {"p50": p50, "p99": p99}


def latency_raw(settings: Settings, bench: Bench, linger: str = LINGER) -> dict[str, float]:
    """The same records over three raw hops, each its own process that appends what our service appended there."""
    names = [f"raw-hop-{number}-linger-{linger}" for number in range(4)]
    make(settings, *names)
    topics = ("log.live", "features.live", "predictions.live")
    hops = [loop(settings, *names[at : at + 2], topic, linger=linger) for at, topic in enumerate(topics)]
    with hops[0], hops[1], hops[2]:
        live(settings, names[0], _departures(settings, bench), names[3])
        wait(settings, names[3], RATE * SECONDS, 120)
    p50, p99 = latencies(settings, names[0], names[3], WARM)
    say(f"raw latency, linger {linger}", p50=p50, p99=p99)
    return {"p50": p50, "p99": p99}


def live(settings: Settings, topic: str, value: Callable[[int], bytes], sink: str) -> None:
    """RATE records a second, evenly, for SECONDS, made beforehand; the first one has come out before the others go in."""
    producer = Producer(configuration(settings, "live") | {"linger.ms": 0})
    records = [(value(n), _departure(n)["flight_id"].encode()) for n in range(RATE * SECONDS)]
    producer.produce(topic, *records[0])
    producer.flush()
    wait(settings, sink, 1, 60)
    begin = time.monotonic()
    for n, record in enumerate(records[1:]):
        while (ahead := begin + n / RATE - time.monotonic()) > 0:
            time.sleep(ahead)
        producer.produce(topic, *record)
        producer.poll(0)
    producer.flush()


def prepare_peers(settings: Settings, bench: Bench, departures: int) -> Path:
    """A copy of the first log, keyed by origin so that no peer needs to repartition, and what a peer must know."""
    make(settings, "peer-source", "peer-quix", "peer-faust")
    bundle = _applied(settings, bench.usecases["first"])
    schemas = {bundle.ids[source]: schema for source, schema in bundle.schemas.items()}
    parsed = {number: timeline.parsed(schema) for number, schema in schemas.items()}
    producer = Producer({"bootstrap.servers": settings.kafka, "linger.ms": 20, "queue.buffering.max.messages": 500_000})
    for batch in read_to_end(settings, "log.first"):
        for message in batch:
            value = message.value() or b""
            if (number := wire.schema_id(value)) in parsed:
                row = wire.decode_datum(value[5:], parsed[number])
                producer.produce("peer-source", value, str(row.get("origin", row.get("dest"))).encode(), 0)
        producer.flush()
    job = bench.home / "job.json"
    told = {"bootstrap": settings.kafka, "source": "peer-source", "schemas": schemas, "departure": bundle.ids["departures"]}
    job.write_text(json.dumps(told | {"departures": departures, "model": str(bench.home / "model.ubj")}))
    return job


def peer(settings: Settings, job: Path, command: list[str], sink: str, departures: int) -> float:
    """A peer's rate in log events per second."""
    environment = {**os.environ, "PIPELINE_JOB": str(job), "PIPELINE_SINK": sink, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, cwd=job.parent, stdout=subprocess.DEVNULL)
    try:
        wait(settings, sink, departures)
    finally:
        process.terminate()
        process.wait(30)
    rate = span_of(settings, sink).rate(EVENTS)
    say(sink, per_second=rate)
    return rate


def check(settings: Settings) -> None:
    """Everybody's scores are the same: the mean's sums may differ in their last bit, and a tree may split just there."""
    mine = ledger.read_predictions(lambda topic: read_to_end(settings, topic), "predictions.first")
    ids = [(message.key() or b"").decode() for batch in read_to_end(settings, "predictions.first") for message in batch]
    ours = dict(zip(ids, mine["score"].to_list(), strict=True))
    for sink in ("peer-quix", "peer-faust"):
        theirs = scores_of(settings, sink)
        if theirs.keys() != ours.keys():
            sys.exit(f"{sink}: {len(theirs)} predictions beside our {len(ours)}")
        same = np.mean([abs(theirs[key] - score) < 1e-6 for key, score in ours.items()])
        say(f"{sink} agrees", share=float(same))
        if same < 0.999:
            sys.exit(f"{sink}: only {same:.2%} of the scores are ours")


def wait_still(settings: Settings, topic: str) -> None:
    """Return when a topic has not grown for two seconds."""
    last, since = -1, time.monotonic()
    while time.monotonic() - since < 2:
        if (now := total(settings, topic)) != last:
            last, since = now, time.monotonic()
        time.sleep(0.2)


def say(what: str, **figures: float) -> None:
    """A line of progress."""
    print(f"{what:24}" + "  ".join(f"{name} {value:,.2f}" for name, value in figures.items()), flush=True)


def _applied(settings: Settings, folder: Path) -> Any:
    """The use case's bundle with the registry's ids."""
    session = Session(settings, folder)
    session.close()
    return session.applied


def _departures(settings: Settings, bench: Bench) -> Callable[[int], bytes]:
    """The value of the n-th live departure."""
    bundle = _applied(settings, bench.usecases["live"])
    schema, framing = timeline.parsed(bundle.schemas["departures"]), wire.frame(bundle.ids["departures"], b"")
    return lambda n: framing + timeline.datum(schema, _departure(n))


def _departure(n: int) -> dict[str, Any]:
    """The n-th live departure, of about the moment when its turn comes."""
    origin = ("EWR", "JFK", "LGA")[n % 3]
    return {
        "flight_id": f"live-{n}", "departed_at": time.time_ns() // 1000 + n * 1_000_000 // RATE, "carrier": ("UA", "B6", "DL", "AA")[n % 4], "flight": n % 5000,
        "tailnum": f"N{n % 900}", "origin": origin, "dest": ("IAH", "MIA", "ATL", "ORD")[n % 4], "dep_delay": float(n % 60),
        "distance": 1000.0, "sched_hour": 12, "weekday": 1,
    }  # fmt: skip


if __name__ == "__main__":
    main()
