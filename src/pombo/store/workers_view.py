"""What the API shows of the workers, and what it asks of them."""

from dataclasses import dataclass
from datetime import datetime

from pombo.domain.ids import ChannelId, WorkerId, WorkspaceId
from pombo.store.database import Connection


@dataclass(frozen=True, slots=True)
class LiveWorker:
    id: WorkerId
    name: str
    pid: int
    started_at: datetime
    stats: str | None
    """The JSON document it publishes once a second; None before its first."""


async def live_workers(connection: Connection) -> list[LiveWorker]:
    rows = await connection.fetch(
        """SELECT w.id, w.name, w.pid, w.started_at, s.stats
           FROM workers w LEFT JOIN worker_stats s ON s.worker_id = w.id
           WHERE w.expires_at > clock_timestamp() ORDER BY w.id"""
    )
    return [LiveWorker(*row) for row in rows]


async def count_live_workers(connection: Connection) -> int:
    count: int = await connection.fetchval("SELECT count(*) FROM workers WHERE expires_at > clock_timestamp()")
    return count


async def owned_channels(connection: Connection, workspace_id: WorkspaceId) -> dict[ChannelId, WorkerId]:
    """The workspace's channels that a worker holds, with that worker."""
    rows = await connection.fetch(
        "SELECT channel_id, worker_id FROM channel_leases WHERE workspace_id = $1 AND worker_id IS NOT NULL",
        workspace_id,
    )
    return {row["channel_id"]: row["worker_id"] for row in rows}


async def ask_breaker_reset(connection: Connection, workspace_id: WorkspaceId, channel_id: ChannelId) -> None:
    """The channel's worker closes its breaker at its next look."""
    await connection.execute(
        "INSERT INTO commands (workspace_id, channel_id, name) VALUES ($1, $2, 'reset_breaker')",
        workspace_id,
        channel_id,
    )


async def newest_worker(connection: Connection, name: str) -> int:
    """The id of the last one that registered under this name and is alive; 0 when there is none."""
    newest: int = await connection.fetchval(
        "SELECT coalesce(max(id), 0) FROM workers WHERE name = $1 AND expires_at > clock_timestamp()", name
    )
    return newest
