"""Cancels what still waits of a run, in bounded transactions, whatever the run's size."""

from datetime import datetime
from typing import NamedTuple

from pombo.domain.ids import RunId, WorkspaceId
from pombo.store import settlement
from pombo.store.database import Connection
from pombo.store.settlement import CANCELLED, Settled


class Cancelling(NamedTuple):
    """A run that is being cancelled, locked until the transaction ends."""

    workspace_id: WorkspaceId
    run_id: RunId
    channel_ids: list[int]
    expanded_to: int


# Due at infinity is what is in doubt. What is in flight is passed over: should it be put back, the next pass finds it.
_READY = """
SELECT due_at, id FROM outbox
WHERE workspace_id = $1 AND channel_id = $2 AND run_id = $3 AND (due_at, id) > ($4, $5) AND due_at < 'infinity'
  AND state = 'r'
ORDER BY due_at, id LIMIT $6
"""

_DROP_LINES = """
WITH gone AS (
    DELETE FROM audience
    WHERE workspace_id = $1 AND run_id = $2 AND line > $3
      AND line <= (SELECT max(line) FROM (SELECT line FROM audience
                                          WHERE workspace_id = $1 AND run_id = $2 AND line > $3
                                          ORDER BY line LIMIT $4) AS next)
    RETURNING line
), moved AS (
    UPDATE runs SET expanded_to = (SELECT max(line) FROM gone)
    WHERE workspace_id = $1 AND id = $2 AND EXISTS (SELECT FROM gone)
)
SELECT count(*) FROM gone
"""


async def list_cancelling(connection: Connection) -> list[tuple[WorkspaceId, RunId]]:
    rows = await connection.fetch("SELECT workspace_id, id FROM runs WHERE state = 'cancelling' ORDER BY id")
    return [(row["workspace_id"], row["id"]) for row in rows]


async def hold(connection: Connection, workspace_id: WorkspaceId, run_id: RunId) -> Cancelling | None:
    """None when the run is over, or another worker is at it."""
    row = await connection.fetchrow(
        """SELECT workspace_id, id, channel_ids, expanded_to FROM runs
           WHERE workspace_id = $1 AND id = $2 AND state = 'cancelling' FOR UPDATE SKIP LOCKED""",
        workspace_id,
        run_id,
    )
    return None if row is None else Cancelling(*row)


async def drop_lines(connection: Connection, run: Cancelling, limit: int) -> int:
    """Removes the next lines that were never expanded (they are counted already); returns how many."""
    dropped: int = await connection.fetchval(_DROP_LINES, run.workspace_id, run.run_id, run.expanded_to, limit)
    return dropped


async def cancel_ready(
    connection: Connection, run: Cancelling, channel_id: int, after: tuple[datetime, int], limit: int
) -> tuple[datetime, int] | None:
    """Cancels the next messages that wait; returns where the pass goes on, None at its end."""
    rows = await connection.fetch(_READY, run.workspace_id, channel_id, run.run_id, *after, limit)
    if rows:
        await settlement.settle(
            connection,
            [Settled(run.workspace_id, channel_id, id, 0, due_at.date(), CANCELLED, None) for due_at, id in rows],
        )
    return tuple(rows[-1]) if len(rows) == limit else None
