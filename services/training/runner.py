"""Fits the open runs, one at a time, each in a child process under a lease."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from services.training.adapters import Claim, Features, Leases
from services.training.fit.__main__ import AGAIN
from services.training.ports import Ports
from tidemill.bus.control import Engine, Meta, Saying, Stopped, Transaction
from tidemill.events.training import DatasetBuilt, RunCompleted, RunFailed, RunRequested, RunStarted
from tidemill.settings import Settings

logger = logging.getLogger(__name__)

MOST_CRASHES = 3
"""A child that ended without a word so often fails its run."""
_HEARTBEAT = 2.0
_LOOK_AGAIN = 0.2
_PAUSE = 1.0
"""Seconds."""


class Runner:
    """A sidecar of the service: `Runner(settings, worker)(engine, stop)`."""

    def __init__(self, settings: Settings, worker: str) -> None:
        """`worker` names this process in leases and events."""
        self._settings, self._worker = settings, worker

    def __call__(self, engine: Engine, stop: threading.Event) -> None:
        """Fit what is open, to the service's end."""
        features = Features(self._settings)
        engine.persist(partial(self._leases, engine, Leases.free))
        while not stop.is_set():
            claim = self._claim(features, engine)
            if claim is None:
                stop.wait(_LOOK_AGAIN)
            else:
                self._fit(claim, engine, stop)

    def _claim(self, features: Features, engine: Engine) -> Claim | None:
        """The oldest open run whose features are all there; no stream waits for another's."""
        for request in engine.persist(partial(self._leases, engine, Leases.waiting)):
            ends = features.ends(request)
            if ends is not None:
                claim: Claim | None = engine.persist(partial(self._leases, engine, Leases.claim, request.run, ends))
                return claim
        return None

    def _leases(self, engine: Engine, act: Callable[..., Any], *arguments: Any) -> Any:
        with engine.pool.connection() as connection:
            now = time.time_ns() // 1000
            return act(Leases(Transaction(connection, Meta("", now, now)), self._worker), *arguments)

    def _fit(self, claim: Claim, engine: Engine, stop: threading.Event) -> None:
        request, begin = claim.request, time.monotonic()
        started = RunStarted(
            run=request.run,
            stream=request.stream,
            model=request.model,
            worker=self._worker,
            attempt=claim.attempt,
            started_at=time.time_ns() // 1000,
            ends=claim.ends,
        )
        engine.once(f"{request.run}/started/{claim.attempt}", partial(_say, started), claim.traceparent)
        with _child(claim, self._settings) as child:
            threading.Thread(target=self._keep, args=(child, request.run, engine, stop), name="heartbeat", daemon=True).start()
            ended = self._listen(child, claim, engine, begin)
            code = child.wait() if ended else child.poll() or child.wait()
        if not ended:
            self._give_up(claim, code, engine, stop)

    def _listen(self, child: subprocess.Popen[str], claim: Claim, engine: Engine, begin: float) -> bool:
        """Say what the child says; whether it came to an end."""
        assert child.stdout is not None
        for line in child.stdout:
            said = json.loads(line)
            if "dataset" in said:
                built = DatasetBuilt.model_validate(said["dataset"])
                engine.once(f"{claim.request.run}/dataset", partial(_say, built), claim.traceparent)
            elif "completed" in said:
                completed = RunCompleted.model_validate({**said["completed"], "seconds": time.monotonic() - begin})
                return self._close(claim, "completed", completed, engine)
            elif "failed" in said:
                return self._close(claim, "failed", _failed(claim.request, **said["failed"]), engine)
        return False

    def _close(self, claim: Claim, state: str, event: Saying, engine: Engine) -> bool:
        def close(ports: Ports) -> list[Saying]:
            ports.runs.close(claim.request.run, state)
            return [event]

        engine.once(f"{claim.request.run}/ended", close, claim.traceparent)
        return True

    def _keep(self, child: subprocess.Popen[str], run: str, engine: Engine, stop: threading.Event) -> None:
        """The heartbeat: prolong the lease while the child lives; end the child with the service, or when the lease is lost."""
        try:
            while child.poll() is None:
                if stop.wait(_HEARTBEAT) or not engine.persist(partial(self._leases, engine, Leases.keep, run)):
                    break
        except Stopped:
            pass
        child.kill()

    def _give_up(self, claim: Claim, code: int, engine: Engine, stop: threading.Event) -> None:
        if stop.is_set():
            return
        crashed = code != AGAIN
        logger.warning("run gives up", extra={"run": claim.request.run, "code": code, "crashes": claim.crashes + crashed})
        if crashed and claim.crashes + 1 >= MOST_CRASHES:
            detail = f"the fitting process ended {MOST_CRASHES} times with exit code {code}; see the service's log"
            self._close(claim, "failed", _failed(claim.request, "crashed", detail), engine)
            return
        engine.persist(partial(self._leases, engine, Leases.give_up, claim.request.run, crashed))
        stop.wait(_PAUSE)


@contextmanager
def _child(claim: Claim, settings: Settings) -> Iterator[subprocess.Popen[str]]:
    task = {
        "request": claim.request.model_dump(),
        "ends": [end.model_dump() for end in claim.ends],
        "settings": settings.model_dump(mode="json", exclude={"postgres"}),
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "services.training.fit"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert child.stdin is not None
    try:
        with suppress(BrokenPipeError):  # it died at once: its exit code tells
            child.stdin.write(json.dumps(task) + "\n")
            child.stdin.flush()  # stays open: the child lives as long as we do
        yield child
    finally:
        child.kill()
        child.wait()
        with suppress(BrokenPipeError):
            child.stdin.close()


def _say(event: Saying, _: Ports) -> list[Saying]:
    return [event]


def _failed(request: RunRequested, reason: str, detail: str) -> RunFailed:
    return RunFailed(run=request.run, stream=request.stream, model=request.model, reason=reason, detail=detail)
