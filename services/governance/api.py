"""Governance's HTTP door: it reads, nothing more; decisions are signed events."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, HTTPException
from psycopg_pool import ConnectionPool

from services.governance.adapters import Desk


def router(pool: ConnectionPool) -> APIRouter:
    """Approval requests and what became of them."""
    desk, routes = Desk(pool), APIRouter(prefix="/v1/approvals")

    @routes.get("")
    def approvals(state: Literal["open", "approved", "rejected", "lapsed"] | None = None) -> list[dict[str, Any]]:
        return desk.approvals(state)

    @routes.get("/{approval}")
    def approval(approval: str) -> dict[str, Any]:
        found = [one for one in desk.approvals() if one["approval"] == approval]
        if not found:
            raise HTTPException(404, f"there is no approval request {approval!r}; see `tidemill approvals list`")
        return found[0]

    return routes
