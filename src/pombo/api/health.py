"""`GET /health`: whether this process and its database answer; with a key also how many workers live."""

import asyncio
from importlib.metadata import version
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from pombo.api.shapes import Asking, Given, Shape
from pombo.store import workers_view
from pombo.store.database import Database
from pombo.store.errors import DatabaseUnavailable

router = APIRouter(tags=["health"])

VERSION = version("pombo")

# Below the second or more that load balancers wait; a database at work answers within milliseconds.
_PATIENCE_S = 0.8


class Health(Shape):
    status: Literal["ok", "unavailable"] = "ok"
    database: Literal["ok"] | None = Field(default=None, description="With a key only, like what follows.")
    workers: int | None = None
    version: str | None = None


class Pulse:
    """Whether the database answers. All who ask at once share one look, so whoever has no key takes one connection."""

    def __init__(self, database: Database, patience_s: float = _PATIENCE_S) -> None:
        self._database = database
        self._patience_s = patience_s
        self._looking: asyncio.Task[bool] | None = None

    async def beats(self) -> bool:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        # The look is not cancelled when it takes too long: on a dead connection that would take long as well.
        looking = self._looking
        done, _ = await asyncio.wait({looking}, timeout=self._patience_s)
        return bool(done) and looking.result()

    async def _look(self) -> bool:
        try:
            # No workspace has the id 0; opening the transaction is the question and the answer.
            async with self._database.tenant(0):
                return True
        except DatabaseUnavailable:
            return False


@router.get("/health", response_model_exclude_none=True)
@router.head("/health", include_in_schema=False, response_model_exclude_none=True)
async def health(request: Request, response: Response, caller: Asking, given: Given) -> Health:
    """Answers without a key, and then says nothing but `ok`, or `unavailable` (503) when the database is away."""
    if caller is None or caller.workspace_id is None:
        pulse: Pulse = request.app.state.pulse
        if await pulse.beats():
            return Health()
        response.status_code = 503
        return Health(status="unavailable")
    async with given.database.tenant(caller.workspace_id) as connection:
        workers = await workers_view.count_live_workers(connection)
    return Health(database="ok", workers=workers, version=VERSION)
