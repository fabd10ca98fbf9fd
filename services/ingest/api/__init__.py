"""The HTTP door: a thin way into the raw topics for those who speak JSON, with an answer per event."""

from services.ingest.api.routes import router

__all__ = ["router"]
