"""What a process must be told: by environment (`TIDEMILL_*`) or by `tidemill.toml`. Nothing is read at import.

`OTEL_*` names are OpenTelemetry's own and pass by here. librdkafka's names go into the table `[librdkafka]`, or into the environment
as `TIDEMILL_LIBRDKAFKA__<name with _ for .>`; where a fold reads and writes columns, what they say of security and compression counts.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from tidemill.errors import Refused

PREFIX = "TIDEMILL_"
FILE = "tidemill.toml"
DATA_DIR = Path(".tidemill")
PASS_THROUGH = "LIBRDKAFKA__"
_TABLE = "librdkafka"
NOT_SETTINGS = ("TEST_", "DEMO_")
"""What the test suite and the make targets say to each other."""


class Settings(BaseModel):
    """One process's settings. Its repr shows no secret."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data_dir: Path = DATA_DIR
    """Where this installation keeps its state; every command takes `--data-dir`."""
    kafka: str = ""
    """Bootstrap servers, `host:port,...`. When given to `up`, no broker is started."""
    schema_registry: str = ""
    """URL of a registry that speaks Confluent's API. When given to `up`, none is started."""
    postgres: SecretStr = SecretStr("")
    """DSN: of the service's own database in a service, of an administrator for `up`, which then starts no server."""
    http_host: str = "127.0.0.1"
    """Interface of the HTTP door; only a container has a reason to change it."""
    http_port: int = 0
    """Port of the HTTP door; 0: no door."""
    trust_dir: Path = Path("infra/trust")
    """Pinned public keys: `<group>/<name>.pub`."""
    store: str = ""
    """fsspec URL of the content-addressed store; empty: `<data_dir>/store`."""
    log_level: str = "INFO"
    trace_sample: float = Field(default=0.01, ge=0, le=1)
    """Share of events that leave spans; control events always do."""
    streams: str = ".+"
    """Which streams the data-plane services of this process take part in: a regular expression for the whole name."""
    snapshot_seconds: float = Field(default=20, gt=0)
    """How often a data-plane service writes its state, if anything came."""
    dead_share: float = Field(default=0.5, ge=0, le=1)
    """A data-plane service stops when more than this share of its newest input cannot be taken; 1: never."""
    librdkafka: dict[str, str] = Field(default_factory=dict)
    """Handed to every Kafka client as it is, after our own values."""

    @field_validator("librdkafka", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        return {name: str(text) for name, text in value.items()} if isinstance(value, dict) else value

    @property
    def store_url(self) -> str:
        """The store's fsspec URL."""
        return self.store or f"file://{self.data_dir.resolve() / 'store'}"

    @classmethod
    def load(cls, data_dir: Path | None = None, **over: Any) -> Settings:
        """What was given, and the running stack's addresses where none were."""
        return cls.given(data_dir, **over)._with_running_stack()

    @classmethod
    def given(cls, data_dir: Path | None = None, **over: Any) -> Settings:
        """`over` over the environment over `tidemill.toml` over the defaults; Refused on an unknown or a bad value."""
        file, environment = _file(), _environment()
        told = file | environment | over
        told[_TABLE] = {**file.get(_TABLE, {}), **environment.get(_TABLE, {}), **over.get(_TABLE, {})}
        if data_dir is not None:
            told["data_dir"] = data_dir
        written = dict.fromkeys(file, FILE) | dict.fromkeys(environment, "environment") | dict.fromkeys(over, "")
        settings = cls._checked(told, written)
        _check_table(settings.librdkafka)
        return settings

    @classmethod
    def _checked(cls, given: dict[str, Any], written: dict[str, str]) -> Settings:
        """`written` tells where a person wrote each name."""
        for name in given:
            if name not in cls.model_fields:
                known = [_spelled(field, written[name]) for field in cls.model_fields]
                near = difflib.get_close_matches(_spelled(name, written[name]), known, 1)
                fix = f"did you mean {near[0]!r}?" if near else f"settings are {', '.join(known)}"
                raise Refused("unknown-setting", f"{_place(name, written)}{_spelled(name, written[name])!r} is no setting; {fix}")
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            name, *more = map(str, first["loc"])
            at = _spelled(name, written.get(name, ""))
            raise Refused("bad-setting", f"{_place(name, written)}{'.'.join([at, *more])}: {first['msg']}") from None

    def _with_running_stack(self) -> Settings:
        """Fill what was not given from the stack that runs in the data directory. A service is given everything."""
        if self.kafka and self.schema_registry:
            return self
        from tidemill.stack.state import State

        running = State.read(self.data_dir)
        if running is None:
            return self
        found = {"kafka": running.kafka, "schema_registry": running.schema_registry}
        lacking = {name: value for name, value in found.items() if not getattr(self, name) and value}
        if "trust_dir" not in self.model_fields_set and running.trust_dir:
            lacking["trust_dir"] = running.trust_dir
        return self.model_copy(update={name: Path(value) if name == "trust_dir" else value for name, value in lacking.items()})


def cache_dir() -> Path:
    """Where things lie that can be fetched or made again, for all installations of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidemill"


def _place(name: str, written: dict[str, str]) -> str:
    return f"{place}: " if (place := written.get(name)) else ""


def _spelled(name: str, place: str) -> str:
    """A setting's name as it is written there."""
    return f"{PREFIX}{name.upper()}" if place == "environment" else name


def _file() -> dict[str, Any]:
    try:
        told = tomllib.loads(Path(FILE).read_text())
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused("bad-setting", f"{FILE}: {error}") from None
    if not isinstance(told.get(_TABLE, {}), dict):
        raise Refused("bad-setting", f"{FILE}: {_TABLE} is a table, [{_TABLE}]")
    return told


def _environment() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in os.environ.items():
        key = name.removeprefix(PREFIX)
        if key == name or key.startswith(NOT_SETTINGS):
            continue
        if key.startswith(PASS_THROUGH):
            found.setdefault(_TABLE, {})[key.removeprefix(PASS_THROUGH).lower().replace("_", ".")] = value
        elif key.lower() == _TABLE:
            raise Refused(
                "bad-setting",
                f"environment: {name} is a table, of which each entry is a variable: {PREFIX}{PASS_THROUGH}SOCKET_TIMEOUT_MS",
            )
        else:
            found[key.lower()] = value
    return found


def _check_table(librdkafka: dict[str, str]) -> None:
    """Refused where the library knows no such property, or no such value of it: not only when a client is made."""
    if not librdkafka:
        return
    from confluent_kafka import KafkaException, Producer

    try:
        Producer({**librdkafka, "log_level": 0})
    except KafkaException as error:
        raise Refused("bad-setting", f"[{_TABLE}]: {error.args[0].str()}") from None
