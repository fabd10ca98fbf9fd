"""Ed25519 keys of approvers. Public keys are pinned as `<trust_dir>/<group>/<name>.pub`; private keys never lie in a repository."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from tidemill.errors import Refused

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")


def check_name(name: str, what: str) -> None:
    """Refused unless it can be the name of a file, of which `what` has one."""
    if not _NAME.fullmatch(name):
        raise Refused("bad-name", f"{name!r} names no {what}: write letters, digits, `.`, `_`, `-` or `@`, a letter or digit first")


def generate(name: str, private_to: Path, pinned_in: Path) -> tuple[Path, Path]:
    """Make a key pair: `<private_to>/<name>.pem` (mode 0600) and `<pinned_in>/<name>.pub`. An existing key is never replaced."""
    check_name(name, "approver")
    private_to.mkdir(parents=True, exist_ok=True)
    pinned_in.mkdir(parents=True, exist_ok=True)
    secret, public = private_to / f"{name}.pem", pinned_in / f"{name}.pub"
    for file in (secret, public):
        if file.exists():
            raise Refused("key-exists", f"{file} exists; choose another name or remove it yourself")
    key = Ed25519PrivateKey.generate()
    with os.fdopen(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return secret, public


def load_private(file: Path) -> Ed25519PrivateKey:
    """The private key in a PEM file; Refused when the file holds none."""
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Refused("bad-key", f"{file}: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Refused("bad-key", f"{file} holds no Ed25519 private key; make one with `tidemill approvals keygen`")
    return key


def pinned(trust_dir: Path) -> list[Path]:
    """The files of all pinned keys: `<group>/<name>.pub`, in order."""
    return sorted(trust_dir.glob("*/*.pub"))


def _load_public(file: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(file.read_bytes())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Refused("bad-key", f"{file}: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise Refused("bad-key", f"{file} holds no Ed25519 public key")
    return key


@dataclass(frozen=True)
class KeyRing:
    """The pinned public keys: group -> name -> key."""

    groups: dict[str, dict[str, Ed25519PublicKey]]

    @classmethod
    def load(cls, trust_dir: Path) -> KeyRing:
        """Read every `<group>/<name>.pub` below `trust_dir`; a missing folder is an empty ring, which trusts nobody."""
        groups: dict[str, dict[str, Ed25519PublicKey]] = {}
        for file in pinned(trust_dir):
            groups.setdefault(file.parent.name, {})[file.stem] = _load_public(file)
        return cls(groups)

    def key(self, group: str, name: str) -> Ed25519PublicKey:
        """The key of one approver; Refused when the group does not pin that name."""
        try:
            return self.groups[group][name]
        except KeyError:
            raise Refused("unknown-approver", f"{name!r} has no pinned key in group {group!r}") from None
