"""The Pages and numbers that a workspace sends from."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field

from pombo.api.errors import ApiError
from pombo.api.shapes import Given, Id, Shape, Workspace
from pombo.domain.channels import ChannelKind, ChannelState
from pombo.domain.doubt import DoubtPolicy
from pombo.domain.ids import ChannelId
from pombo.store import channels

router = APIRouter(prefix="/api/channels", tags=["channels"])


class ChannelShape(Shape):
    id: int
    kind: ChannelKind
    external_id: str = Field(description="Meta's id of the Page or the phone number.")
    name: str
    rate_per_second: float
    state: ChannelState
    stop_code: str | None
    stop_reason: str | None
    doubt_policy: DoubtPolicy = Field(description="What becomes of a message that is in doubt after the grace.")
    doubt_grace_s: float = Field(description="Seconds.")


class StartAnswer(Shape):
    started: list[int] = Field(description="The channel, and those that the same error had stopped; none if it sends.")


class ChannelList(Shape):
    channels: list[ChannelShape]


@router.get("")
async def list_channels(workspace: Workspace, given: Given) -> ChannelList:
    async with given.database.tenant(workspace) as connection:
        found = await channels.list_channels(connection, workspace)
    return ChannelList(
        channels=[
            ChannelShape(
                id=channel.id,
                kind=channel.kind,
                external_id=channel.external_id,
                name=channel.name,
                rate_per_second=channel.rate_per_second,
                state=channel.state,
                stop_code=channel.stop_code,
                stop_reason=channel.stop_reason,
                doubt_policy=channel.doubt_policy,
                doubt_grace_s=channel.doubt_grace_s,
            )
            for channel in found
        ]
    )


@router.post("/{channelId}/start")
async def start_channel(
    channel_id: Annotated[Id, Path(alias="channelId")], workspace: Workspace, given: Given
) -> StartAnswer:
    """Lets a stopped channel send again, and the others that the same error has stopped."""
    async with given.database.tenant(workspace) as connection:
        if not await channels.get_channels(connection, [(workspace, channel_id)]):
            raise ApiError("channel_not_found", f"There is no channel {channel_id}; GET /api/channels lists them.")
        started = await channels.start_channel(connection, workspace, ChannelId(channel_id))
    return StartAnswer(started=[*started])
