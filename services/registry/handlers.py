"""What the registry does about each fact it hears."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from services.registry.model import CANDIDATE, CHAMPION, Request, Switch, verify_verdict
from tidemill.bus.control import Parked
from tidemill.errors import Refused, Rejected
from tidemill.events.governance import ApprovalDecided, ApprovalRequested
from tidemill.events.ingest import SwitchAppended, SwitchRefused
from tidemill.events.registry import AliasChanged, VersionRegistered
from tidemill.events.training import RunCompleted
from tidemill.trust.keys import KeyRing
from tidemill.trust.statement import question


class Versions(Protocol):
    """All versions of all models. A model's name is its stream's: another stream may have one of the same name."""

    def of_run(self, run: str) -> int | None: ...
    def next_number(self, stream: str, model: str) -> int: ...
    def exists(self, stream: str, model: str, version: int) -> bool: ...
    def add(self, registered: VersionRegistered) -> None: ...


class Aliases(Protocol):
    """Where each alias points."""

    def get(self, stream: str, model: str, alias: str) -> int | None: ...
    def set(self, stream: str, model: str, alias: str, version: int | None) -> None: ...


class Switches(Protocol):
    """The history of what served."""

    def add(self, switch: Switch) -> None: ...
    def newest_rollout(self, stream: str, model: str) -> int: ...


class Requests(Protocol):
    """All approval requests by number, and what has become of them. Ids can be guessed: one may have several."""

    def under(self, approval: str) -> Mapping[int, Request]: ...
    def add(self, request: ApprovalRequested) -> None: ...
    def put(self, number: int, request: Request) -> None: ...


Cause = ApprovalRequested | ApprovalDecided | SwitchAppended | SwitchRefused


@dataclass(frozen=True, slots=True)
class Ports:
    """All that a handler may touch."""

    versions: Versions
    aliases: Aliases
    switches: Switches
    requests: Requests
    keys: KeyRing


def on_run_completed(event: RunCompleted, ports: Ports) -> list[VersionRegistered]:
    """Give the run's artifact the next version number of its model; a run has one version, however often it is told."""
    if ports.versions.of_run(event.run) is not None:
        return []
    shared = event.model_dump(exclude={"seed", "seconds"})
    registered = VersionRegistered(version=ports.versions.next_number(event.stream, event.model), **shared)
    ports.versions.add(registered)
    return [registered]


def on_approval_requested(event: ApprovalRequested, ports: Ports) -> list[AliasChanged]:
    """The version that waits for people is the candidate."""
    _must_exist(event, ports)
    _keep(event, ports)
    return _move(ports, event, CANDIDATE, event.version, rollout=event.rollout)


def on_approval_decided(event: ApprovalDecided, ports: Ports) -> list[AliasChanged]:
    """What was not approved is no candidate any more; what was may become champion. Signatures are verified, not believed."""
    number, request = _request_of(event, ports)
    ports.requests.put(number, request.at(event.verdict, event.reason))
    return [] if event.verdict == "approved" else _withdraw(ports, event)


def on_switch_appended(event: SwitchAppended, ports: Ports) -> list[AliasChanged]:
    """The version serves from this place on: it is the champion, and no candidate any more."""
    _must_exist(event, ports)
    approved = {number: one for number, one in ports.requests.under(event.approval).items() if one.approved}
    if not approved:
        raise Parked(f"people's approval {event.approval}", after=ApprovalDecided)
    number = next((number for number, one in approved.items() if _subject(one.said) == _subject(event)), None)
    if number is None:
        raise Rejected("other-subject", f"approval {event.approval} is not about this switch of {event.stream}/{event.model}")
    ports.requests.put(number, approved[number].at("served"))
    newest = ports.switches.newest_rollout(event.stream, event.model)
    ports.switches.add(
        Switch(
            stream=event.stream,
            model=event.model,
            version=event.version,
            rollout=event.rollout,
            partition=event.partition,
            position=event.offset,
            stream_time=event.effective_at if event.stream_time is None else event.stream_time,
            effective_at=event.effective_at,
            approval=event.approval,
            run=event.run,
        )
    )
    if event.rollout < newest:  # another shard was first with a later one
        return []
    place = (event.rollout, event.partition, event.offset)
    return [*_move(ports, event, CHAMPION, event.version, *place), *_withdraw(ports, event, *place)]


def on_switch_refused(event: SwitchRefused, ports: Ports) -> list[AliasChanged]:
    """What was approved will not serve and is no candidate any more, unless a shard has appended it: one may refuse what another took."""
    found = ports.requests.under(event.approval)
    if not found:
        raise Parked(f"approval request {event.approval}", after=ApprovalRequested)
    asked = {number: one for number, one in found.items() if _order(one.said) == _order(event)}
    if any(one.state == "open" for one in asked.values()) and not any(one.approved for one in asked.values()):
        raise Parked(f"people's decision about {event.approval}", after=ApprovalDecided)
    approved = [number for number, one in asked.items() if one.state == "approved"]
    for number in approved:
        ports.requests.put(number, asked[number].at("refused", event.reason))
    return _withdraw(ports, event, event.rollout) if approved else []


def _keep(event: ApprovalRequested, ports: Ports) -> None:
    """Keep the request; of those under one id with the same statement the first counts, or anybody could change its terms."""
    asked = [one.said for one in ports.requests.under(event.approval).values()]
    try:
        wanted = question(event.statement)
        alike = [one for one in asked if question(one.statement) == wanted]
    except Refused as error:
        raise Rejected(error.reason, f"request {event.approval}: {error.message}") from error
    if not alike:
        ports.requests.add(event)
    elif alike != [event]:
        raise Rejected("other-terms", f"people were asked the same under approval {event.approval} before, on other terms")


def _request_of(event: ApprovalDecided, ports: Ports) -> tuple[int, Request]:
    """The request that the verdict answers, and its number: the first under its id for which the signatures hold."""
    refusal = None
    for number, request in ports.requests.under(event.approval).items():
        try:
            verify_verdict(event, request.said, ports.keys)
        except Refused as error:
            refusal = error
        else:
            return number, request
    if refusal is None:
        raise Parked(f"approval request {event.approval}", after=ApprovalRequested)
    raise Rejected(refusal.reason, f"verdict on {event.approval}: {refusal.message}")


def _must_exist(event: ApprovalRequested | SwitchAppended, ports: Ports) -> None:
    if not ports.versions.exists(event.stream, event.model, event.version):
        raise Parked(f"version {event.stream}/{event.model}/{event.version}")


def _subject(event: ApprovalRequested | SwitchAppended) -> tuple[object, ...]:
    """What people have decided, so far as a switch says it."""
    return event.stream, event.model, event.version, event.artifact, event.action, event.rollout, event.run, event.effective_at


def _order(event: ApprovalRequested | SwitchRefused) -> tuple[object, ...]:
    """What was to take effect, so far as a refusal says it."""
    return event.stream, event.model, event.version, event.rollout, event.run


def _withdraw(ports: Ports, cause: Cause, rollout: int = 0, partition: int = 0, position: int = -1) -> list[AliasChanged]:
    """The version is no candidate any more, if it was."""
    if ports.aliases.get(cause.stream, cause.model, CANDIDATE) != cause.version:
        return []
    return _move(ports, cause, CANDIDATE, None, rollout, partition, position)


def _move(
    ports: Ports,
    cause: Cause,
    alias: str,
    version: int | None,
    rollout: int = 0,
    partition: int = 0,
    position: int = -1,
) -> list[AliasChanged]:
    """Point the alias there; nothing is said where it points there already."""
    previous = ports.aliases.get(cause.stream, cause.model, alias)
    if previous == version:
        return []
    ports.aliases.set(cause.stream, cause.model, alias, version)
    return [
        AliasChanged(
            stream=cause.stream,
            model=cause.model,
            alias=alias,
            version=version,
            previous=previous,
            approval=cause.approval,
            run=cause.run,
            rollout=rollout,
            partition=partition,
            position=position,
        )
    ]
