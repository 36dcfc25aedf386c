"""Acknowledgements: that a paused stream, or a halted workspace's channel, will start no further send.

A worker reads what is paused, waits until its lane is clear of it, and says so under the number of the pause it read.
So an acknowledgement that arrives late says nothing of a later pause, and one by a former owner says nothing at all.
"""

from collections.abc import Sequence
from typing import NamedTuple

from pombo.domain.ids import RunId, WorkerId, WorkspaceId
from pombo.store import run_control
from pombo.store.database import Connection


class Paused(NamedTuple):
    """A paused stream that its channel's owner has yet to acknowledge."""

    workspace_id: int
    channel_id: int
    run_id: int
    number: int


class Halted(NamedTuple):
    """A channel of a halted workspace, likewise."""

    workspace_id: int
    channel_id: int
    number: int


async def unacknowledged(connection: Connection, worker_id: WorkerId) -> tuple[list[Paused], list[Halted]]:
    """What this worker has to acknowledge."""
    paused = await connection.fetch(
        """SELECT s.workspace_id, s.channel_id, s.run_id, s.pauses FROM streams s
           JOIN channel_leases l USING (workspace_id, channel_id)
           WHERE l.worker_id = $1 AND s.state = 'paused' AND NOT s.acknowledged""",
        worker_id,
    )
    halted = await connection.fetch(
        """SELECT l.workspace_id, l.channel_id, h.number FROM halts h
           JOIN channel_leases l USING (workspace_id)
           WHERE l.worker_id = $1 AND l.acknowledged_halt < h.number""",
        worker_id,
    )
    return [Paused(*row) for row in paused], [Halted(*row) for row in halted]


async def acknowledge(
    connection: Connection, worker_id: WorkerId, paused: Sequence[Paused], halted: Sequence[Halted]
) -> None:
    """No further send of these will start here. Rings for whoever completes pauses."""
    if paused:
        await connection.execute(
            """UPDATE streams s SET acknowledged = true
               FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::integer[])
                   AS p (workspace_id, channel_id, run_id, number)
               JOIN channel_leases l USING (workspace_id, channel_id)
               WHERE s.workspace_id = p.workspace_id AND s.channel_id = p.channel_id AND s.run_id = p.run_id
                 AND s.state = 'paused' AND s.pauses = p.number AND l.worker_id = $1""",
            worker_id,
            *map(list, zip(*paused, strict=True)),
        )
    if halted:
        await connection.execute(
            """UPDATE channel_leases l SET acknowledged_halt = greatest(l.acknowledged_halt, h.number)
               FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS h (workspace_id, channel_id, number)
               WHERE l.workspace_id = h.workspace_id AND l.channel_id = h.channel_id AND l.worker_id = $1""",
            worker_id,
            *map(list, zip(*halted, strict=True)),
        )
    await run_control.ring(connection)


# In two statements: the second sees what was committed before the row was locked, and pausing and resuming lock it too.
_LOCK_PAUSING = "SELECT workspace_id, id FROM runs WHERE state = 'pausing' ORDER BY id FOR UPDATE SKIP LOCKED"
_COMPLETE = """
UPDATE runs r SET state = 'paused'
FROM unnest($1::bigint[], $2::bigint[]) AS l (workspace_id, id)
WHERE r.workspace_id = l.workspace_id AND r.id = l.id AND NOT EXISTS (
    SELECT FROM streams s
    JOIN channel_leases o USING (workspace_id, channel_id)
    JOIN workers w ON w.id = o.worker_id
    WHERE s.workspace_id = r.workspace_id AND s.channel_id = ANY (r.channel_ids) AND s.run_id = r.id
      AND NOT s.acknowledged AND w.expires_at > clock_timestamp()
)
RETURNING r.workspace_id, r.id
"""

_LOCK_HALTING = "SELECT workspace_id FROM halts WHERE halted_at IS NULL ORDER BY workspace_id FOR UPDATE SKIP LOCKED"
_COMPLETE_HALTS = """
UPDATE halts h SET halted_at = clock_timestamp()
WHERE h.workspace_id = ANY ($1::bigint[]) AND NOT EXISTS (
    SELECT FROM channel_leases o
    JOIN workers w ON w.id = o.worker_id
    WHERE o.workspace_id = h.workspace_id AND o.acknowledged_halt < h.number AND w.expires_at > clock_timestamp()
)
RETURNING h.workspace_id
"""


async def complete_pauses(connection: Connection) -> list[tuple[WorkspaceId, RunId]]:
    """In a transaction. Runs that are paused from now on: every owner has acknowledged, or its lease has ended."""
    pausing = await connection.fetch(_LOCK_PAUSING)
    if not pausing:
        return []
    rows = await connection.fetch(_COMPLETE, [row["workspace_id"] for row in pausing], [row["id"] for row in pausing])
    return [(row["workspace_id"], row["id"]) for row in rows]


async def complete_halts(connection: Connection) -> list[WorkspaceId]:
    """In a transaction. Workspaces that are halted from now on, likewise."""
    halting = await connection.fetch(_LOCK_HALTING)
    if not halting:
        return []
    rows = await connection.fetch(_COMPLETE_HALTS, [row["workspace_id"] for row in halting])
    return [row["workspace_id"] for row in rows]
