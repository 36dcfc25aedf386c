"""`/api/sync-conversations` and `/api/sync-full-history`: what Pages' conversations held before Pombo (row B2)."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from pombo.api.errors import ApiError
from pombo.api.inbox_shapes import raw, raw_list
from pombo.api.shapes import Given, Id, RequestShape, Shape, Workspace
from pombo.domain.channels import ChannelKind
from pombo.domain.ids import ChannelId, WorkspaceId
from pombo.store import channels, syncs
from pombo.store.database import Connection

router = APIRouter(prefix="/api", tags=["inbox"])

_EVERYTHING = 2**31 - 1


class SyncShape(Shape):
    id: int
    version: int
    channel_id: int
    wanted: int = Field(description="Threads at most.")
    state: Literal["running", "completed", "failed", "cancelled"]
    threads: int = Field(description="Read so far.")
    messages: int = Field(description="New ones among them.")
    reached_at: datetime | None = Field(description="All threads that were written in after this are read.")
    error: dict[str, Any] | None
    created_at: datetime
    finished_at: datetime | None


class SyncList(Shape):
    syncs: list[SyncShape]


Channels = Annotated[list[Id], Field(max_length=1000)] | None


class RecentSync(RequestShape):
    channel_ids: Channels = Field(None, description="All Pages unless given.")
    threads: Annotated[int, Field(ge=1, le=50)] = 5


class FullSync(RequestShape):
    channel_ids: Channels = Field(None, description="All Pages unless given.")
    threads: Annotated[int, Field(ge=1, le=_EVERYTHING)] | None = Field(50, description="Null: all there are.")


@router.post("/sync-conversations", status_code=202, response_model=SyncList)
async def sync_conversations(workspace: Workspace, given: Given, wanted: RecentSync | None = None) -> Response:
    """The threads of each Page that were last written in. Progress: `sync.updated` events, and `GET /api/sync/{id}`."""
    wanted = wanted or RecentSync.model_validate({})
    return await _start(given, workspace, wanted.channel_ids, wanted.threads)


@router.post("/sync-full-history", status_code=202, response_model=SyncList)
async def sync_full_history(workspace: Workspace, given: Given, wanted: FullSync | None = None) -> Response:
    """The same for more, or all, threads; it takes days if it must, and goes on after any interruption.

    Meta shows the 20 newest messages of each. WhatsApp has no history.
    """
    wanted = wanted or FullSync.model_validate({})
    return await _start(given, workspace, wanted.channel_ids, wanted.threads or _EVERYTHING)


@router.get("/sync", response_model=SyncList)
async def list_syncs(workspace: Workspace, given: Given) -> Response:
    """The latest of each channel."""
    async with given.database.tenant(workspace) as connection:
        return raw_list("syncs", await syncs.show_latest(connection, workspace))


@router.get("/sync/{sync_id}", response_model=SyncShape)
async def get_sync(sync_id: Id, workspace: Workspace, given: Given) -> Response:
    async with given.database.tenant(workspace) as connection:
        return raw(await _show(connection, workspace, sync_id))


@router.post("/sync/{sync_id}/cancel", response_model=SyncShape)
async def cancel_sync(sync_id: Id, workspace: Workspace, given: Given) -> Response:
    """What was read stays."""
    async with given.database.tenant(workspace) as connection:
        await syncs.cancel(connection, workspace, sync_id)
        return raw(await _show(connection, workspace, sync_id))


async def _show(connection: Connection, workspace_id: WorkspaceId, sync_id: int) -> str:
    shown = await syncs.show(connection, workspace_id, sync_id)
    if shown is None:
        raise ApiError("sync_not_found", f"There is no sync {sync_id}.")
    return shown


async def _start(given: Given, workspace_id: WorkspaceId, channel_ids: list[int] | None, threads: int) -> Response:
    async with given.database.tenant(workspace_id) as connection:
        known = {channel.id: channel for channel in await channels.list_channels(connection, workspace_id)}
        if channel_ids is None:
            pages = [id for id, channel in known.items() if channel.kind is ChannelKind.MESSENGER]
        else:
            pages = [ChannelId(id) for id in sorted(set(channel_ids))]
            for channel_id in pages:
                if channel_id not in known:
                    raise ApiError("channel_not_found", f"There is no channel {channel_id}.")
                if known[channel_id].kind is not ChannelKind.MESSENGER:
                    raise ApiError("history_unavailable", f"Channel {channel_id} is no Page: WhatsApp has no history.")
        started = [await syncs.start(connection, workspace_id, channel_id, threads) for channel_id in pages]
    return raw_list("syncs", started, 202)
