"""`GET /ws/schema.json`: every frame of the WebSocket as JSON Schema, for clients that want to check or generate."""

from typing import Any

from fastapi import APIRouter

from pombo.realtime import frames

router = APIRouter(tags=["real time"])


@router.get("/ws/schema.json")
async def socket_schema() -> dict[str, Any]:
    """Needs no key. What the frames mean stands in docs/subsystems/realtime.md."""
    return frames.schema()
