"""The registry's HTTP door: it reads, nothing more."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, HTTPException
from psycopg_pool import ConnectionPool

from services.registry.adapters import Shelf
from services.registry.model import served_at_position, served_at_time


def router(pool: ConnectionPool) -> APIRouter:
    """Models, versions, and which version served where."""
    shelf, routes = Shelf(pool), APIRouter(prefix="/v1/models")

    @routes.get("")
    def models() -> list[dict[str, Any]]:
        return shelf.models()

    @routes.get("/{model}")
    def model(model: str) -> dict[str, Any]:
        versions = _known(shelf, model)
        history = [asdict(switch) for switch in shelf.switches(model)]
        return {"model": model, "aliases": shelf.aliases(model), "versions": versions, "history": history}

    @routes.get("/{model}/versions/{version}")
    def version(model: str, version: int) -> dict[str, Any]:
        found = [one for one in _known(shelf, model) if one["version"] == version]
        if not found:
            raise HTTPException(404, f"model {model!r} has no version {version}; see GET /v1/models/{model}")
        return found[0]

    @routes.get("/{model}/at")
    def served(model: str, position: int | None = None, partition: int = 0, time: int | None = None) -> dict[str, Any] | None:
        _known(shelf, model)
        if (position is None) == (time is None):
            raise HTTPException(422, "give one of: position (offset in the log), time (event time, microseconds)")
        switches = shelf.switches(model)
        found = served_at_position(switches, partition, position) if position is not None else served_at_time(switches, time or 0)
        return asdict(found) if found else None

    return routes


def _known(shelf: Shelf, model: str) -> list[dict[str, Any]]:
    versions = shelf.versions(model)
    if not versions:
        names = ", ".join(row["model"] for row in shelf.models()) or "none yet"
        raise HTTPException(404, f"there is no model {model!r}; models: {names}")
    return versions
