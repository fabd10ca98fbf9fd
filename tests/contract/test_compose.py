"""docker-compose.yml holds to the compose schema, and to the table of services that `tidemill up` starts."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tidemill.stack import artifacts
from tidemill.stack.services import ONE_THREAD, SERVICES

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVERS = {"kafka", "postgres", "schema-registry", "otel-collector", "contracts"}
OURS = {service.name: COMPOSE["services"].get(service.name, {}) for service in SERVICES}


def compose_schema() -> dict[str, Any]:
    """The compose specification's own schema, from the package that ships it (found, not imported: it is a command)."""
    spec = importlib.util.find_spec("check_jsonschema")
    assert spec is not None
    assert spec.origin is not None
    schema: dict[str, Any] = json.loads((Path(spec.origin).parent / "builtin_schemas/vendor/compose-spec.json").read_text())
    return schema


def test_it_is_a_compose_file() -> None:
    jsonschema.Draft202012Validator(compose_schema()).validate(COMPOSE)


def test_the_schema_would_find_a_mistake() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(compose_schema()).validate({"services": {"kafka": {"imagee": "x"}}})


def test_it_has_the_services_of_the_table_and_the_servers() -> None:
    assert COMPOSE["services"].keys() == OURS.keys() | SERVERS


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_service_is_built_with_its_own_packages_and_has_a_database_only_where_it_needs_one(service: Any) -> None:
    described = OURS[service.name]
    assert described["build"]["args"] == {"SERVICE": service.name}
    assert (REPOSITORY / described["build"]["dockerfile"]).is_file()
    assert ("TIDEMILL_POSTGRES" in described["environment"]) == service.has_database
    assert ("postgres" in described["depends_on"]) == service.has_database
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert service.name in extras


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_service_is_told_what_the_local_stack_tells_it(service: Any) -> None:
    from tidemill.settings import PREFIX, Settings

    told = {name.removeprefix(PREFIX).lower() for name in OURS[service.name]["environment"] if name.startswith(PREFIX)}
    assert told <= Settings.model_fields.keys()
    assert {"data_dir", "kafka", "schema_registry", "store", "trust_dir", "http_host", "http_port"} <= told
    assert ONE_THREAD.items() <= OURS[service.name]["environment"].items()


def test_no_password_has_a_value_or_a_default() -> None:
    secrets = re.findall(r"^.*PASSWORD.*:.*$|^.*postgresql://.*@.*$", TEXT, re.MULTILINE)
    assert secrets
    assert [line for line in secrets if not re.search(r"\$\{\w+_PASSWORD:\?[^}]+\}", line)] == []


def test_every_database_has_a_service_and_every_role_a_password() -> None:
    environment = COMPOSE["services"]["postgres"]["environment"]
    names = set(environment["DATABASES"].split())
    assert names == {"apicurio"} | {service.name for service in SERVICES if service.has_database}
    assert {f"PASSWORD_{name.upper()}" for name in names} <= environment.keys()


def test_doors_on_the_host_are_loopbacks() -> None:
    doors = [door for service in COMPOSE["services"].values() for door in service.get("ports", [])]
    assert doors
    assert all(door.startswith("127.0.0.1:") for door in doors)


def test_the_servers_are_the_versions_of_the_local_stack() -> None:
    versions = {file.artifact: file.version for part in ("kafka", "apicurio") for file in artifacts.locked(part)}
    assert COMPOSE["services"]["kafka"]["image"].endswith(f":{versions['kafka_2.13']}")
    assert COMPOSE["services"]["schema-registry"]["image"].endswith(f":{versions['apicurio-registry-app']}")
    assert COMPOSE["services"]["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_every_mounted_file_exists_and_every_volume_is_declared() -> None:
    mounts = [str(mount).split(":")[0] for service in COMPOSE["services"].values() for mount in service.get("volumes", [])]
    assert {name for name in mounts if not name.startswith("./")} == set(COMPOSE["volumes"])
    assert [name for name in mounts if name.startswith("./") and not (REPOSITORY / name).exists()] == []


def test_the_collector_takes_what_services_send() -> None:
    collector = yaml.safe_load((REPOSITORY / "infra/otel/collector.yaml").read_text())
    port = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(":")[2]
    assert {service["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] for service in OURS.values()} == {f"http://otel-collector:{port}"}
    for pipeline in collector["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= collector[kind].keys()
