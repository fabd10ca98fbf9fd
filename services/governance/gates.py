"""Whether a version holds the bounds of its model file. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from tidemill.events.governance import GateResult
from tidemill.events.registry import VersionRegistered
from tidemill.spec.model import Gate


def evaluate(gates: Mapping[str, Gate], version: VersionRegistered, serving: int | None) -> list[GateResult]:
    """Each gate's verdict about the version's figures on its test rows. `serving` is the champion by now, or who is about to be."""
    return [_evaluate(name, gate, version, serving) for name, gate in gates.items()]


def measured(gates: Mapping[str, Gate], version: VersionRegistered) -> int | None:
    """The champion that the version had to beat, 0 where there was none; None where no gate asks for it."""
    return (version.champion_version or 0) if any(gate.bound == "champion" for gate in gates.values()) else None


def overtaken(beaten: int | None, serving: int | None) -> str:
    """Why figures against the champion `beaten` count no more, now that `serving` has been approved; empty where they do."""
    if beaten is None or serving is None or serving <= beaten:
        return ""
    return f"version {serving} was approved since; the next run will be measured against it"


def _evaluate(name: str, gate: Gate, version: VersionRegistered, serving: int | None) -> GateResult:
    value = version.metrics.get(gate.metric)
    bound, whose = _bound(gate, version)
    if gate.bound == "champion" and (message := overtaken(version.champion_version or 0, serving)):
        return GateResult(name=name, passed=False, value=value, bound=None, message=message)
    if gate.bound == "champion" and version.champion_version is None:
        return GateResult(name=name, passed=True, value=value, bound=None, message="no champion yet, so there is nothing to beat")
    if value is None or not isfinite(value):
        return GateResult(name=name, passed=False, value=None, bound=bound, message=f"the report has no {gate.metric}")
    if bound is None or not isfinite(bound):
        return GateResult(
            name=name, passed=False, value=value, bound=None, message=f"the report has no {gate.metric} of the {whose}"
        )
    side = "below" if gate.below is not None else "above"
    passed = gate.holds(value, bound)
    message = f"{gate.metric} {value:.4f} is {'' if passed else 'not '}{side} {whose} {bound:.4f}"
    return GateResult(name=name, passed=passed, value=value, bound=bound, message=message)


def _bound(gate: Gate, version: VersionRegistered) -> tuple[float | None, str]:
    """The bound's number, and whose it is."""
    if gate.bound == "baseline":
        return version.baseline.get(gate.metric), "the baseline's"
    if gate.bound == "champion":
        return version.champion.get(gate.metric), "the champion's"
    return float(gate.bound), "the bound"
