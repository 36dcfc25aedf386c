"""The old queue's two addresses: its status, and one batch on demand for hosts that only have cron."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from pombo.api.campaigns import campaign_not_found
from pombo.api.errors import ApiError
from pombo.api.run_shapes import progress
from pombo.api.shapes import Asking, Given, Id, Shape, Workspace
from pombo.domain.ids import CampaignId
from pombo.store import campaigns, figures
from pombo.store.campaigns import Campaign
from pombo.store.figures import Figures

router = APIRouter(prefix="/api/queue", tags=["queue"])


class QueueStats(Shape):
    """`sent` is cumulative: delivered and read messages are in it. pending + processing + sent + what was never
    accepted is the total."""

    pending: int
    processing: int = Field(description="Handed to Meta, outcome not known yet; those in doubt included.")
    sent: int
    failed: int = Field(description="Never accepted, or accepted and then reported as failed.")
    delivered: int
    read: int


class CampaignProgress(Shape):
    id: int
    name: str
    progress: float = Field(description="Percent of the messages that are settled.")
    total: int
    sent: int
    delivered: int
    failed: int


class QueueStatus(Shape):
    stats: QueueStats
    avg_send_rate: str = Field(examples=["15.2 msg/sec"])
    campaign: CampaignProgress | None = Field(description="Null when no campaignId was given.")


class BatchAnswer(Shape):
    processed: int
    channels: int = Field(description="Channels that no running worker owned, and that this call sent for.")
    accepted: int
    failed: int
    retried: int
    uncertain: int


@router.get("/status")
async def queue_status(
    workspace: Workspace, given: Given, campaign_id: Annotated[Id | None, Query(alias="campaignId")] = None
) -> QueueStatus:
    """Of one campaign, all its runs added up; without `campaignId` of the whole workspace."""
    async with given.database.tenant(workspace) as connection:
        if campaign_id is None:
            return _status(None, await figures.workspace_figures(connection, workspace))
        campaign = await campaigns.get_campaign(connection, workspace, CampaignId(campaign_id))
        if campaign is None:
            raise campaign_not_found(campaign_id)
        return _status(campaign, await figures.campaign_figures(connection, workspace, campaign.id))


def _status(campaign: Campaign | None, found: Figures) -> QueueStatus:
    failed = found.failed + found.undelivered
    return QueueStatus(
        stats=QueueStats(
            pending=found.waiting,
            processing=found.in_flight + found.uncertain,
            sent=found.accepted,
            failed=failed,
            delivered=found.delivered,
            read=found.read,
        ),
        avg_send_rate=f"{found.rate:.1f} msg/sec",
        campaign=None
        if campaign is None
        else CampaignProgress(
            id=campaign.id,
            name=campaign.name,
            progress=progress(found),
            total=found.total,
            sent=found.accepted,
            delivered=found.delivered,
            failed=failed,
        ),
    )


@router.get("/worker", operation_id="process_batch_by_get")
@router.post("/worker", operation_id="process_batch")
async def process_batch(caller: Asking, given: Given) -> BatchAnswer:
    """Sends one batch (CRON_BATCH_SIZE messages at most) and answers with what it did.

    Takes the WORKER_SECRET as bearer, for all workspaces, or an API key, for its own. Channels of running workers are
    left to them.
    """
    if given.process_batch is None:
        raise ApiError("worker_not_available", "This process does not send; start `pombo worker`.")
    assert caller is not None
    report = await given.process_batch(caller.workspace_id, given.settings.cron_batch_size)
    return BatchAnswer(
        processed=report.accepted + report.failed + report.retried + report.uncertain,
        channels=report.channels,
        accepted=report.accepted,
        failed=report.failed,
        retried=report.retried,
        uncertain=report.uncertain,
    )
