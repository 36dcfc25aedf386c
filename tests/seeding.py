"""Rows that tests need before they begin: a workspace, channels that stand in the sandbox too, a run with messages."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pombo.domain.channels import ChannelKind
from pombo.domain.ids import ChannelId, RunId, WorkspaceId
from pombo.store import accounts, channels
from pombo.store.database import Connection, Database
from pombo.store.secrets import SecretBox
from tests.sandbox_server import ChannelHandle

FAST = 1_000_000.0
"""A rate that never holds a test up."""


async def add_workspace(database: Database, name: str = "acme") -> WorkspaceId:
    async with database.transaction() as connection:
        return await accounts.ensure_workspace(connection, name)


async def add_channel(
    database: Database, box: SecretBox, workspace_id: WorkspaceId, handle: ChannelHandle, rate: float = FAST
) -> ChannelId:
    async with database.transaction() as connection:
        app = await accounts.ensure_app(
            connection, box, workspace_id, f"app {handle.app.id}", handle.app.secret, handle.app.verify_token
        )
        return await channels.save_channel(
            connection,
            box,
            workspace_id=workspace_id,
            kind=ChannelKind(handle.kind),
            external_id=handle.id,
            name=f"{handle.kind} {handle.id}",
            app_id=app.id,
            token=handle.token,
            rate_per_second=rate,
            waba_id=handle.waba_id or None,
        )


@dataclass(frozen=True, slots=True)
class SeededRun:
    workspace_id: WorkspaceId
    run_id: RunId
    message_ids: list[int]


async def add_run(
    database: Database,
    workspace_id: WorkspaceId,
    recipients: Sequence[tuple[ChannelId, str]],
    content: dict[str, Any] | None = None,
    variables: Sequence[dict[str, Any]] | None = None,
) -> SeededRun:
    """A run already expanded: its messages are due, its total is counted."""
    content = content or {"type": "text", "text": "Hello"}
    used = sorted({channel for channel, _ in recipients})
    async with database.transaction() as connection:
        campaign_id = await connection.fetchval(
            "INSERT INTO campaigns (workspace_id, name, channel_ids) VALUES ($1, 'test', $2) RETURNING id",
            workspace_id,
            used,
        )
        run_id = await connection.fetchval(
            """INSERT INTO runs (workspace_id, campaign_id, state, source, content, channel_ids, expanded)
               VALUES ($1, $2, 'processing', 'staged', $3, $4, true) RETURNING id""",
            workspace_id,
            campaign_id,
            json.dumps(content),
            used,
        )
        await connection.execute("INSERT INTO run_totals (workspace_id, run_id) VALUES ($1, $2)", workspace_id, run_id)
        rows = await connection.fetch(
            """INSERT INTO outbox (workspace_id, id, channel_id, run_id, due_at, recipient, variables)
               SELECT $1, nextval('message_ids'), r.channel_id, $2, now(), r.recipient, r.variables
               FROM unnest($3::bigint[], $4::text[], $5::jsonb[]) WITH ORDINALITY
                   AS r (channel_id, recipient, variables, n)
               ORDER BY r.n RETURNING id""",
            workspace_id,
            run_id,
            [channel for channel, _ in recipients],
            [recipient for _, recipient in recipients],
            [json.dumps(v) for v in variables] if variables else [None] * len(recipients),
        )
        await connection.execute(
            "INSERT INTO streams (workspace_id, channel_id, run_id) SELECT $1, unnest($2::bigint[]), $3",
            workspace_id,
            used,
            run_id,
        )
        await connection.execute(
            "INSERT INTO run_deltas (workspace_id, run_id, total) VALUES ($1, $2, $3)",
            workspace_id,
            run_id,
            len(recipients),
        )
        await connection.execute("SELECT pg_notify('pombo_due', '')")
    return SeededRun(workspace_id, run_id, [row["id"] for row in rows])


async def figures(connection: Connection, run: SeededRun) -> dict[str, int]:
    """The run's counters as they are, folded or not; zeroes left out."""
    row = await connection.fetchrow(
        """SELECT sum(total) AS total, sum(accepted) AS accepted, sum(delivered) AS delivered, sum(read) AS read,
                  sum(failed) AS failed, sum(undelivered) AS undelivered, sum(uncertain) AS uncertain,
                  sum(cancelled) AS cancelled, sum(sent_twice) AS sent_twice
           FROM (SELECT total, accepted, delivered, read, failed, undelivered, uncertain, cancelled, sent_twice
                 FROM run_deltas WHERE workspace_id = $1 AND run_id = $2
                 UNION ALL
                 SELECT total, accepted, delivered, read, failed, undelivered, uncertain, cancelled, sent_twice
                 FROM run_totals WHERE workspace_id = $1 AND run_id = $2) x""",
        run.workspace_id,
        run.run_id,
    )
    return {name: int(value) for name, value in row.items() if value}
