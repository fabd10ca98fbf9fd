"""Asking the services' HTTP doors."""

from __future__ import annotations

from typing import Any

import httpx

from tidemill.errors import Refused
from tidemill.settings import Settings
from tidemill.stack.state import State


def get(settings: Settings, service: str, path: str, **query: Any) -> Any:
    """The JSON answer of a running service; Refused with the service's own words, or with what to start."""
    state = State.read(settings.data_dir)
    running = state.services.get(service) if state else None
    if running is None or running.url is None or running.process() is None:
        raise Refused(
            "not-running",
            f"{service} does not run in {settings.data_dir}; `tidemill status` tells what does, `tidemill up` starts it",
        )
    try:
        answer = httpx.get(running.url + path, params={key: value for key, value in query.items() if value is not None}, timeout=10)
    except httpx.HTTPError as error:
        raise Refused("no-answer", f"{service} at {running.url} does not answer: {error}") from error
    if answer.is_error:
        raise Refused("refused", f"{service}: {_detail(answer)}")
    return answer.json()


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError):
        return answer.text
