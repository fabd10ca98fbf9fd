"""Where a stack listens."""

from __future__ import annotations

import psutil

from tidemill.stack.state import State

LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def listening(state: State) -> set[str]:
    """The addresses on which the stack's processes listen."""
    processes = state.all_living()
    children = [child for process in processes for child in process.children(recursive=True)]
    sockets = [socket for process in {*processes, *children} for socket in process.net_connections("inet")]
    return {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN}
