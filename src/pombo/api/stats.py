"""`/stats/…`: the queue, the workers and their parts, as seen from one workspace."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import Field

from pombo.api.errors import ApiError
from pombo.api.run_shapes import RunTotals, show_totals
from pombo.api.shapes import Given, Id, Shape, Workspace
from pombo.api.worker_stats import Published, add_up, camel, latency_ms, published, reuse_ratio
from pombo.domain.channels import AT_MAXIMUM
from pombo.domain.ids import ChannelId, WorkspaceId
from pombo.store import channels, figures, workers_view
from pombo.store.channels import Channel
from pombo.store.database import Database

router = APIRouter(prefix="/stats", tags=["stats"])


class QueueFigures(Shape):
    totals: RunTotals
    rate_per_second: float
    runs: dict[str, int] = Field(description="How many runs are in each state.")


class WorkerChannel(Shape):
    channel_id: int
    name: str
    rate_per_second: float
    rate_reason: str = Field(description="Why the rate is what it is: the set maximum, or what Meta said.")
    in_flight: int
    buffered: int


class WorkerShape(Shape):
    """Without its machine's name and process id, which are none of a workspace's business."""

    id: int
    started_at: datetime
    channels: list[WorkerChannel]


class WorkerList(Shape):
    workers: list[WorkerShape]
    unowned_channels: list[int] = Field(description="Channels that nobody sends for at the moment.")


class PartOfWorker(Shape):
    worker_id: int
    figures: dict[str, Any]


class PartStats(Shape):
    total: dict[str, Any]
    workers: list[PartOfWorker]


class ClientStats(PartStats):
    reuse_ratio: float = Field(description="Requests on a reused connection per request.")
    latency_p50_ms: float | None = Field(alias="latencyP50Ms")
    latency_p99_ms: float | None = Field(alias="latencyP99Ms")


class BreakerShape(Shape):
    channel_id: int
    name: str
    state: str = Field(description="closed, open, half_open; unknown while nobody sends for the channel.")
    failures: int
    opened_at: datetime | None
    reason: str | None


class BreakerList(Shape):
    breakers: list[BreakerShape]


class ResetAnswer(Shape):
    channel_id: int
    status: str = "requested"


@router.get("/queue")
async def queue(workspace: Workspace, given: Given) -> QueueFigures:
    async with given.database.tenant(workspace) as connection:
        found = await figures.workspace_figures(connection, workspace)
        states = await figures.runs_by_state(connection, workspace)
    return QueueFigures(totals=show_totals(found), rate_per_second=round(found.rate, 1), runs=states)


@router.get("/workers")
async def workers(workspace: Workspace, given: Given) -> WorkerList:
    """Who is alive, and which of the workspace's channels each one sends for."""
    async with given.database.tenant(workspace) as connection:
        alive = await published(connection)
        owners = await workers_view.owned_channels(connection, workspace)
        present = await channels.list_channels(connection, workspace)
    ids = {each.worker.id for each in alive}
    return WorkerList(
        workers=[
            WorkerShape(
                id=each.worker.id,
                started_at=each.worker.started_at,
                channels=[
                    _worker_channel(channel, each, workspace)
                    for channel in present
                    if owners.get(channel.id) == each.worker.id
                ],
            )
            for each in alive
        ],
        unowned_channels=[channel.id for channel in present if owners.get(channel.id) not in ids],
    )


@router.get("/http-client")
async def http_client(workspace: Workspace, given: Given) -> ClientStats:
    """The connections to Meta, of all live workers."""
    parts, total = await _part(given.database, workspace, "http_client")
    return ClientStats(
        **parts.model_dump(),
        reuse_ratio=reuse_ratio(total),
        latencyP50Ms=latency_ms(total, 0.5),
        latencyP99Ms=latency_ms(total, 0.99),
    )


@router.get("/log-writer")
async def log_writer(workspace: Workspace, given: Given) -> PartStats:
    """The writing of outcomes, of all live workers."""
    return (await _part(given.database, workspace, "log_writer"))[0]


@router.get("/performance")
async def performance(workspace: Workspace, given: Given) -> PartStats:
    """The sending loop, of all live workers."""
    return (await _part(given.database, workspace, "performance"))[0]


@router.get("/circuit-breaker")
async def circuit_breakers(workspace: Workspace, given: Given) -> BreakerList:
    async with given.database.tenant(workspace) as connection:
        alive = await published(connection)
        present = await channels.list_channels(connection, workspace)
        owners = await workers_view.owned_channels(connection, workspace)
    living = {each.worker.id for each in alive}
    lanes = {lane.get("channelId"): lane.get("breaker") for each in alive for lane in each.channels_of(workspace)}
    # A lane that idles is owned, and not told of.
    idle = {channel_id: {"state": "closed"} for channel_id, worker_id in owners.items() if worker_id in living}
    return BreakerList(
        breakers=[_breaker(channel, lanes.get(channel.id) or idle.get(channel.id)) for channel in present]
    )


@router.post("/circuit-breaker/{channelId}/reset", status_code=202)
async def reset_breaker(
    channel_id: Annotated[Id, Path(alias="channelId")], workspace: Workspace, given: Given
) -> ResetAnswer:
    """Closes the channel's breaker; its worker does so within a second or two."""
    async with given.database.tenant(workspace) as connection:
        present = await channels.get_channels(connection, [(workspace, ChannelId(channel_id))])
        if not present:
            raise ApiError("channel_not_found", f"There is no channel {channel_id}; GET /api/channels lists them.")
        await workers_view.ask_breaker_reset(connection, workspace, ChannelId(channel_id))
    return ResetAnswer(channel_id=channel_id)


async def _part(database: Database, workspace_id: WorkspaceId, name: str) -> tuple[PartStats, dict[str, Any]]:
    async with database.tenant(workspace_id) as connection:
        alive = await published(connection)
    total = add_up(each.section(name) for each in alive)
    shape = PartStats(
        total=camel(total),
        workers=[PartOfWorker(worker_id=each.worker.id, figures=camel(each.section(name))) for each in alive],
    )
    return shape, total


def _worker_channel(channel: Channel, each: Published, workspace_id: WorkspaceId) -> WorkerChannel:
    lane = next((lane for lane in each.channels_of(workspace_id) if lane.get("channelId") == channel.id), {})
    return WorkerChannel(
        channel_id=channel.id,
        name=channel.name,
        rate_per_second=lane.get("ratePerSecond") or channel.rate_per_second,
        rate_reason=lane.get("rateReason") or AT_MAXIMUM,
        in_flight=lane.get("inFlight") or 0,
        buffered=lane.get("buffered") or 0,
    )


def _breaker(channel: Channel, breaker: Any) -> BreakerShape:
    known = breaker if isinstance(breaker, dict) else {}
    return BreakerShape(
        channel_id=channel.id,
        name=channel.name,
        state=known.get("state") or "unknown",
        failures=known.get("failures") or 0,
        opened_at=known.get("opened_at"),
        reason=known.get("reason"),
    )
