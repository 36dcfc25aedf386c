"""Runs: one execution of a campaign each, known by (campaign, planned time).

    pending ──first chunk expanded──▶ processing ──every message settled──▶ completed
       └───────────┬───────────────────────┘  ▲                                 ▲
             pause │                   resume │                                 │
                   ▼                          │                                 │
                pausing ──acknowledged──▶  paused ──────────────────────────────┘

    any of these four ──cancel──▶ cancelling ──every message settled──▶ cancelled

`run_control` moves runs along the lower paths. A run resumed before its first chunk is pending again; one that is
paused completes by itself when what was in flight was its last.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from pombo.domain.content import Content
from pombo.domain.ids import CampaignId, ChannelId, RunId, WorkspaceId
from pombo.store.campaigns import encode_content
from pombo.store.database import Connection

NEW_RUN_BELL = "pombo_runs"
"""Rung by NOTIFY when a run waits to be expanded."""


class RunState(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    PAUSING = "pausing"
    """Nothing new is taken; what was taken may still leave, within milliseconds."""
    PAUSED = "paused"
    """No further send starts."""
    CANCELLING = "cancelling"
    """What waits is being cancelled; what is in flight or in doubt ends as it does."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Source(StrEnum):
    """Where a run's audience comes from."""

    STAGED = "staged"
    """The lines of its upload."""
    CONTACTS = "contacts"
    """All contacts of its channels."""


@dataclass(frozen=True, slots=True)
class Run:
    workspace_id: WorkspaceId
    id: RunId
    campaign_id: CampaignId
    state: RunState
    pause_reason: str | None
    """Why it was paused, where Pombo itself did so."""
    source: Source
    channel_ids: list[ChannelId]
    expanded: bool
    """Whether all of the audience is in the outbox."""
    planned_at: datetime
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class Expansion(NamedTuple):
    """How far a run's audience has been moved into the outbox."""

    workspace_id: WorkspaceId
    run_id: RunId
    source: Source
    channel_ids: list[ChannelId]
    planned_at: datetime
    expanded_to: int
    expanded_channel_id: int


_RUN = """workspace_id, id, campaign_id, state, pause_reason, source, channel_ids, expanded, planned_at, created_at,
          started_at, finished_at"""


async def start_run(
    connection: Connection,
    *,
    workspace_id: WorkspaceId,
    campaign_id: CampaignId,
    content: Content,
    channel_ids: list[ChannelId],
    source: Source,
    audience_size: int = 0,
    run_id: RunId | None = None,
    rejected: int = 0,
    planned_at: datetime | None = None,
) -> RunId | None:
    """Makes a pending run; the workers see it when the transaction commits.

    `audience_size` counts the recipients, duplicates included, for the figures while they are expanded; whoever is then
    found to be on the suppression list is taken off it. `run_id` is its upload's, for a staged one. Planned for now
    unless said otherwise; None when the campaign has a run of that planned time already.
    """
    made: RunId | None = await connection.fetchval(
        """INSERT INTO runs (workspace_id, id, campaign_id, planned_at, source, content, channel_ids, audience_size)
           VALUES ($1, coalesce($2, nextval('runs_id_seq')), $3, coalesce($4, clock_timestamp()), $5, $6, $7, $8)
           ON CONFLICT (workspace_id, campaign_id, planned_at) DO NOTHING RETURNING id""",
        workspace_id,
        run_id,
        campaign_id,
        planned_at,
        source,
        encode_content(content),
        channel_ids,
        audience_size,
    )
    if made is not None:
        await connection.execute(
            "INSERT INTO run_totals (workspace_id, run_id, rejected) VALUES ($1, $2, $3)", workspace_id, made, rejected
        )
        await connection.execute("SELECT pg_notify($1, '')", NEW_RUN_BELL)
    return made


async def get_run(connection: Connection, workspace_id: WorkspaceId, run_id: RunId) -> Run | None:
    row = await connection.fetchrow(
        f"SELECT {_RUN} FROM runs WHERE workspace_id = $1 AND id = $2", workspace_id, run_id
    )
    return None if row is None else _run(row)


async def list_runs(
    connection: Connection, workspace_id: WorkspaceId, campaign_id: CampaignId, limit: int
) -> list[Run]:
    """A campaign's latest runs, newest first."""
    rows = await connection.fetch(
        f"""SELECT {_RUN} FROM runs WHERE workspace_id = $1 AND campaign_id = $2
            ORDER BY planned_at DESC, id DESC LIMIT $3""",
        workspace_id,
        campaign_id,
        limit,
    )
    return [_run(row) for row in rows]


async def list_latest(connection: Connection, workspace_id: WorkspaceId, limit: int) -> list[tuple[Run, str]]:
    """A workspace's latest runs with their campaigns' names, newest first."""
    rows = await connection.fetch(
        f"""SELECT {_RUN}, (SELECT name FROM campaigns c WHERE c.workspace_id = runs.workspace_id
                            AND c.id = runs.campaign_id) AS name
            FROM runs WHERE workspace_id = $1 ORDER BY id DESC LIMIT $2""",
        workspace_id,
        limit,
    )
    return [(_run({key: value for key, value in row.items() if key != "name"}), row["name"]) for row in rows]


async def claim_unexpanded(connection: Connection) -> Expansion | None:
    """Locks one run that waits for its next chunk, until the transaction ends; another worker takes another.

    The least expanded comes first, so that a small run does not wait for the end of a large one.
    """
    row = await connection.fetchrow(
        """SELECT workspace_id, id, source, channel_ids, planned_at, expanded_to, expanded_channel_id FROM runs
           WHERE state IN ('pending', 'processing') AND NOT expanded
           ORDER BY expanded_to, id LIMIT 1 FOR UPDATE SKIP LOCKED"""
    )
    if row is None:
        return None
    return Expansion(*row)._replace(source=Source(row["source"]))


async def advance(
    connection: Connection,
    expansion: Expansion,
    *,
    expanded_to: int,
    channel_id: int,
    expanded: bool,
    left_out: int,
) -> None:
    """Moves the cursor of a claimed run; with its first chunk it is processing. Who is left out is expected no more."""
    await connection.execute(
        """UPDATE runs SET state = 'processing', started_at = coalesce(started_at, clock_timestamp()),
               expanded_to = $3, expanded_channel_id = $4, expanded = $5,
               audience_size = greatest(0, audience_size - $6)
           WHERE workspace_id = $1 AND id = $2""",
        expansion.workspace_id,
        expansion.run_id,
        expanded_to,
        channel_id,
        expanded,
        left_out,
    )


def _run(row: object) -> Run:
    values = dict(row)  # type: ignore[call-overload]
    values["state"] = RunState(values["state"])
    values["source"] = Source(values["source"])
    return Run(**values)
