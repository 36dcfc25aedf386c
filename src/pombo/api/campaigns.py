"""Campaigns: made once, sent as often as wanted."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from pombo.api.contents import ContentShape, WithContent, check_content, show_content
from pombo.api.errors import ApiError
from pombo.api.run_shapes import RunSummary, summarise
from pombo.api.shapes import Given, Id, Name, Shape, Workspace
from pombo.domain.ids import CampaignId, ChannelId
from pombo.store import campaigns, channels, runs
from pombo.store.campaigns import Campaign
from pombo.store.channels import Channel

router = APIRouter(prefix="/api/campaigns", tags=["campaigns"])

# A campaign's page shows its latest executions.
_SHOWN_RUNS = 20


class NewCampaign(WithContent):
    name: Name
    channel_ids: list[Id] | None = Field(
        default=None, min_length=1, max_length=1000, description="Needed when the workspace has several channels."
    )


class CampaignShape(Shape):
    id: int
    name: str
    channel_ids: list[int]
    content: ContentShape | None = Field(description="Null until the first send brings it.")
    created_at: datetime


class CampaignWithRuns(CampaignShape):
    runs: list[RunSummary] = Field(description="The latest, newest first.")


class CampaignPage(Shape):
    campaigns: list[CampaignShape]
    next_before: int | None = Field(description="Pass it as `before` for the next page; null on the last.")


@router.post("", status_code=201)
async def create_campaign(wanted: NewCampaign, workspace: Workspace, given: Given) -> CampaignShape:
    """Makes a campaign; nothing is sent."""
    content = wanted.read_content()
    async with given.database.tenant(workspace) as connection:
        chosen = _choose(await channels.list_channels(connection, workspace), wanted.channel_ids)
        if content is not None:
            check_content(content, [channel.kind for channel in chosen])
        made = await campaigns.create_campaign(
            connection, workspace, wanted.name, content, [channel.id for channel in chosen]
        )
    return _show(made)


@router.get("")
async def list_campaigns(
    workspace: Workspace,
    given: Given,
    before: Annotated[Id | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> CampaignPage:
    """Newest first."""
    last_seen = None if before is None else CampaignId(before)
    async with given.database.tenant(workspace) as connection:
        found = await campaigns.list_campaigns(connection, workspace, last_seen, limit)
    return CampaignPage(
        campaigns=[_show(campaign) for campaign in found], next_before=found[-1].id if len(found) == limit else None
    )


@router.get("/{campaignId}")
async def get_campaign(
    campaign_id: Annotated[Id, Path(alias="campaignId")], workspace: Workspace, given: Given
) -> CampaignWithRuns:
    async with given.database.tenant(workspace) as connection:
        found = await campaigns.get_campaign(connection, workspace, CampaignId(campaign_id))
        if found is None:
            raise campaign_not_found(campaign_id)
        latest = await runs.list_runs(connection, workspace, found.id, _SHOWN_RUNS)
    return CampaignWithRuns(**dict(_show(found)), runs=[summarise(run) for run in latest])


def campaign_not_found(campaign_id: int) -> ApiError:
    sentence = f"There is no campaign {campaign_id}; POST /api/campaigns makes one, GET /api/campaigns lists them."
    return ApiError("campaign_not_found", sentence)


def _choose(present: list[Channel], wanted: list[int] | None) -> list[Channel]:
    if wanted is None:
        if len(present) == 1:
            return present
        sentence = "Name the channels to send from as 'channelIds'; GET /api/channels lists them."
        if not present:
            sentence = "The workspace has no channel to send from; `pombo channel add` adds one."
        raise ApiError("channel_required", sentence)
    by_id = {channel.id: channel for channel in present}
    for channel_id in wanted:
        if channel_id not in by_id:
            raise ApiError("channel_not_found", f"There is no channel {channel_id}; GET /api/channels lists them.")
    return [by_id[ChannelId(channel_id)] for channel_id in dict.fromkeys(wanted)]


def _show(campaign: Campaign) -> CampaignShape:
    return CampaignShape(
        id=campaign.id,
        name=campaign.name,
        channel_ids=list(campaign.channel_ids),
        content=show_content(campaign.content),
        created_at=campaign.created_at,
    )
