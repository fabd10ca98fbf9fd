"""The whole stack with its services: who can reach it."""

from __future__ import annotations

from tests.e2e.demo_site import Demo
from tests.sockets import LOOPBACK, listening
from tidemill.stack.services import BY_NAME
from tidemill.stack.state import State


def test_servers_and_services_listen_on_loopback_alone(demo: Demo) -> None:
    demo.status()
    state = State.read(demo.data)
    assert state is not None
    assert state.services.keys() == BY_NAME.keys()
    found = listening(state)
    assert found
    assert found <= LOOPBACK
