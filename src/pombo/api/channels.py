"""The Pages and numbers that a workspace sends from."""

from fastapi import APIRouter
from pydantic import Field

from pombo.api.shapes import Given, Shape, Workspace
from pombo.domain.channels import ChannelKind, ChannelState
from pombo.domain.doubt import DoubtPolicy
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
