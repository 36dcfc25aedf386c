"""The panic button: nothing of the workspace is sent until it is released (row E19)."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import Field

from pombo.api.shapes import Given, Shape, Workspace
from pombo.store import halts
from pombo.store.halts import Halt

router = APIRouter(prefix="/api/panic", tags=["panic"])


class PanicShape(Shape):
    state: Literal["released", "halting", "halted"] = Field(
        description="halting: what was taken may still leave, within milliseconds; halted: no further send starts."
    )
    since: datetime | None = Field(description="When the button was pressed.")
    halted_at: datetime | None


@router.get("")
async def get_panic(workspace: Workspace, given: Given) -> PanicShape:
    async with given.database.tenant(workspace) as connection:
        return _show(await halts.get_halt(connection, workspace))


@router.post("", status_code=202)
async def panic(workspace: Workspace, given: Given) -> PanicShape:
    """Holds all runs and direct messages of the workspace, also those that begin later; no run changes its status."""
    async with given.database.tenant(workspace) as connection:
        return _show(await halts.halt(connection, workspace))


@router.post("/release")
async def release_panic(workspace: Workspace, given: Given) -> PanicShape:
    """Everything goes on, but for the runs that were paused one by one."""
    async with given.database.tenant(workspace) as connection:
        await halts.release(connection, workspace)
    return _show(None)


def _show(halt: Halt | None) -> PanicShape:
    if halt is None:
        return PanicShape(state="released", since=None, halted_at=None)
    return PanicShape(
        state="halting" if halt.halted_at is None else "halted", since=halt.since, halted_at=halt.halted_at
    )
