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
    def model(model: str, stream: str | None = None) -> dict[str, Any]:
        stream = _stream_of(shelf, model, stream)
        history = [asdict(switch) for switch in shelf.switches(stream, model)]
        shown = {"aliases": shelf.aliases(stream, model), "versions": shelf.versions(stream, model), "history": history}
        return {"model": model, "stream": stream} | shown

    @routes.get("/{model}/versions/{version}")
    def version(model: str, version: int, stream: str | None = None) -> dict[str, Any]:
        stream = _stream_of(shelf, model, stream)
        found = [one for one in shelf.versions(stream, model) if one["version"] == version]
        if not found:
            raise HTTPException(404, f"model {model!r} of {stream} has no version {version}; see GET /v1/models/{model}")
        return found[0]

    @routes.get("/{model}/at")
    def served(
        model: str, position: int | None = None, partition: int = 0, time: int | None = None, stream: str | None = None
    ) -> dict[str, Any] | None:
        stream = _stream_of(shelf, model, stream)
        if (position is None) == (time is None):
            raise HTTPException(422, "give one of: position (offset in the log), time (stream time, microseconds)")
        switches = shelf.switches(stream, model)
        if position is None:
            found = served_at_time(switches, partition, time or 0)
        else:
            found = served_at_position(switches, partition, position)
        return asdict(found) if found else None

    return routes


def _stream_of(shelf: Shelf, model: str, stream: str | None) -> str:
    """The stream whose model is meant: the one that was named, or the only one that has a model of this name."""
    streams = shelf.streams(model)
    if not streams or (stream is not None and stream not in streams):
        names = ", ".join(f"{row['model']} of {row['stream']}" for row in shelf.models()) or "none yet"
        raise HTTPException(404, f"there is no model {model!r}{f' of {stream}' if stream else ''}; models: {names}")
    if stream is None and len(streams) > 1:
        raise HTTPException(
            409, f"several streams have a model {model!r}: {', '.join(streams)}; add the one you mean (stream={streams[0]})"
        )
    return stream or streams[0]
