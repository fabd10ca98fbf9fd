"""`tidemill dlq list | show | redrive`: the records that could not be taken."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated, Any

import typer
from confluent_kafka import KafkaError, Producer

from tidemill.bus.consumer import reader
from tidemill.bus.control_client import read_all
from tidemill.bus.tail import Lookup, values_of
from tidemill.cli import tables
from tidemill.cli.options import AsOutput, DataDir, Output, connected
from tidemill.errors import Refused, Transient
from tidemill.events.deadletters import DeadLetter
from tidemill.events.envelope import ANSWER_TO, ATTEMPT, CAUSED_BY, time_text
from tidemill.settings import Settings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

_OURS = (ANSWER_TO, ATTEMPT, CAUSED_BY)
_MAX_BYTES = 10_485_760


@app.command("list")
def list_letters(
    limit: Annotated[int, typer.Option(min=1, help="So many, the newest.")] = 50,
    reason: Annotated[str, typer.Option(help="Only those with this reason.")] = "",
    data_dir: DataDir = None,
    output: AsOutput = Output.text,
) -> None:
    """List dead letters, the newest last, and how many there are of each reason."""
    letters = [letter for letter in _letters(connected(data_dir)) if reason in ("", letter.reason)]
    newest = letters[max(len(letters) - limit, 0) :]
    if output is Output.json:
        typer.echo(json.dumps({"reasons": Counter(one.reason for one in letters), "letters": [_plain(one) for one in newest]}))
        return
    if not letters:
        typer.echo("no dead letters" + (f" with the reason {reason!r}" if reason else ""))
        return
    columns = ("id", "at", "record", "service", "attempt", "reason", "message")
    tables.show(columns, (_row(one) for one in newest))
    for found, count in Counter(one.reason for one in letters).most_common():
        typer.echo(f"{count:>8,} {found}")


@app.command()
def show(letter: Annotated[str, typer.Argument(help="The dead letter's id.")], data_dir: DataDir = None) -> None:
    """Show one dead letter with the record's bytes, as JSON."""
    typer.echo(json.dumps(_plain(_one(_letters(connected(data_dir)), letter)), indent=2))


@app.command()
def redrive(
    letter: Annotated[str, typer.Argument(help="The dead letter's id.")] = "",
    reason: Annotated[str, typer.Option(help="All with this reason instead, each that was not sent once more already.")] = "",
    data_dir: DataDir = None,
) -> None:
    """Send raw records once more to where they came from, as they were, with the number of the attempt."""
    if bool(letter) == bool(reason):
        raise typer.BadParameter("name a dead letter, or a --reason")
    settings = connected(data_dir)
    letters = _letters(settings)
    chosen, unsure = ([_one(letters, letter)], 0) if letter else unsent(redrivable(letters, reason), settings)
    if not chosen:
        raise Refused("nothing-chosen", f"no raw record that died of {reason!r} waits; see `tidemill dlq list`")
    send(chosen, settings)
    typer.echo(f"{len(chosen)} sent once more")
    if unsure:
        typer.echo(f"{unsure} of them may have been before: their raw topics no longer go back so far")


def redrivable(letters: list[DeadLetter], reason: str) -> list[DeadLetter]:
    """Raw records that died of `reason` and were not sent once more since, only to die again."""
    again = {header.value.decode("utf-8", "replace") for one in letters for header in one.headers if header.name == CAUSED_BY}
    return [one for one in letters if one.reason == reason and one.topic.startswith("raw.") and one.id not in again]


def unsent(letters: list[DeadLetter], settings: Settings) -> tuple[list[DeadLetter], int]:
    """Those whose records were not sent once more, and of how many of these that cannot be told. Raises Transient.

    A record that was sent once more stands behind the one that died and names its letter; the broker deletes both when they are old.
    """
    oldest_last = sorted(letters, key=lambda one: one.offset, reverse=True)
    oldest = {(one.topic, one.partition): one.offset for one in oldest_last}
    lookup = Lookup(reader(settings, "dlq"))
    try:
        sent = {value for place, offset in oldest.items() for value in values_of(lookup, CAUSED_BY, *place, offset)}
        begins = {place: lookup.bounds(*place)[0] for place in oldest}
    finally:
        lookup.close()
    left = [one for one in letters if one.id.encode() not in sent]
    return left, sum(one.offset < begins[one.topic, one.partition] for one in left)


def send(letters: list[DeadLetter], settings: Settings) -> None:
    """Produce the records; raises Refused on a record of another topic than a raw one, before any is sent."""
    for one in letters:
        if not one.topic.startswith("raw."):
            raise Refused("not-raw", f"{one.id} is a record of {one.topic}: only raw records are sent once more")
    failed: list[KafkaError] = []
    limits = {"message.max.bytes": _MAX_BYTES, "message.timeout.ms": 30_000}
    producer = Producer({"bootstrap.servers": settings.kafka, "enable.idempotence": True, **limits, **settings.librdkafka})
    for one in letters:
        headers: list[tuple[str, str | bytes | None]] = [(h.name, h.value) for h in one.headers if h.name not in _OURS]
        headers += [(ATTEMPT, str(one.attempt + 1).encode()), (CAUSED_BY, one.id.encode())]
        producer.produce(
            one.topic,
            one.value,
            one.key,
            one.partition,
            headers=headers,
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )
        producer.poll(0)
    left = producer.flush(40)
    if failed or left:
        raise Transient(
            f"{len(failed) + left} of {len(letters)} were not taken by the broker: {failed[0] if failed else 'no answer'}"
        )


def _letters(settings: Settings) -> list[DeadLetter]:
    """All dead letters, each once, in order."""
    found = {heard.event.id: heard.event for heard in read_all(settings, [DeadLetter]) if isinstance(heard.event, DeadLetter)}
    return list(found.values())


def _one(letters: list[DeadLetter], wanted: str) -> DeadLetter:
    found = [one for one in letters if one.id.startswith(wanted)]
    if len(found) != 1:
        raise Refused("unknown-letter", f"{len(found)} dead letters have an id that begins with {wanted!r}")
    return found[0]


def _row(letter: DeadLetter) -> tuple[str | int, ...]:
    at, place = time_text(letter.at)[:19], _place(letter)
    return letter.id, at, place, letter.service, letter.attempt, letter.reason, letter.message[:80]


def _place(letter: DeadLetter) -> str:
    return f"{letter.topic}/{letter.partition}/{letter.offset}"


def _plain(letter: DeadLetter) -> dict[str, Any]:
    """JSON for people: bytes as text where they are text, else as hexadecimal digits."""
    plain = letter.model_dump() | {"key": _bytes(letter.key), "value": _bytes(letter.value), "at": time_text(letter.at)}
    return plain | {"headers": {header.name: _bytes(header.value) for header in letter.headers}}


def _bytes(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return "0x" + value.hex()
    return text if text.isprintable() else "0x" + value.hex()
