"""`GET /health`: whether this process answers; with a key also whether the rest does."""

from importlib.metadata import version
from typing import Literal

from fastapi import APIRouter
from pydantic import Field

from pombo.api.shapes import Asking, Given, Shape
from pombo.store import workers_view

router = APIRouter(tags=["health"])

VERSION = version("pombo")


class Health(Shape):
    status: Literal["ok"] = "ok"
    database: Literal["ok"] | None = Field(default=None, description="With a key only, like what follows.")
    workers: int | None = None
    version: str | None = None


@router.get("/health", response_model_exclude_none=True)
async def health(caller: Asking, given: Given) -> Health:
    """The only address that answers without a key, and then says nothing but ok. A database that is away gives 503."""
    if caller is None or caller.workspace_id is None:
        return Health()
    async with given.database.tenant(caller.workspace_id) as connection:
        workers = await workers_view.count_live_workers(connection)
    return Health(database="ok", workers=workers, version=VERSION)
