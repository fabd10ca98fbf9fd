"""Run a command in a network namespace that has loopback and nothing else: `offline.py COMMAND ...`.

An ordinary user gets a user namespace too, in which he stays himself: PostgreSQL refuses to run as root, even as a pretended one.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIOCSIFFLAGS, _IFF_UP, _IFF_RUNNING = 0x8914, 0x1, 0x40


def main(command: list[str]) -> None:
    """Leave the network, show that it is gone, become the command."""
    user, group = os.getuid(), os.getgid()
    _unshare(_CLONE_NEWNET if user == 0 else _CLONE_NEWNET | _CLONE_NEWUSER)
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _raise_loopback()
    found = [name for _, name in socket.if_nameindex()]
    if found != ["lo"]:
        raise SystemExit(f"there is more than loopback here: {found}")
    os.execvp(command[0], command)


def _unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        raise SystemExit(f"this machine does not allow a network namespace: {os.strerror(ctypes.get_errno())}")


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", _IFF_UP | _IFF_RUNNING, b""))


if __name__ == "__main__":
    main(sys.argv[1:])
