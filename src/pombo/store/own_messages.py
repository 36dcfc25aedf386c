"""Which of a channel's outgoing messages are ours, and since when it is."""

from collections.abc import Sequence
from datetime import datetime

from pombo.store.database import Connection
from pombo.store.planning import columns, plan_by_index
from pombo.store.settlement import Evidence

# A message is committed to the outbox before it is sent, and goes from there to the log in one statement: one snapshot
# of both shows it in either. Only whole days are dropped from the log, and never yesterday's; of an older key nothing
# is certain.
_UNKNOWN = """
SELECT e.n
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::date[]) WITH ORDINALITY
    AS e (workspace_id, channel_id, id, day, n)
WHERE e.day >= (clock_timestamp() AT TIME ZONE 'UTC')::date - 1
  AND NOT EXISTS (SELECT FROM outbox o
                  WHERE o.workspace_id = e.workspace_id AND o.id = e.id AND o.channel_id + 0 = e.channel_id)
  AND NOT EXISTS (SELECT FROM deliveries d
                  WHERE d.workspace_id = e.workspace_id AND d.id = e.id AND d.channel_id + 0 = e.channel_id)
"""


async def sent_by_us(
    connection: Connection, workspace_id: int, channel_id: int, provider_ids: Sequence[str]
) -> set[str]:
    """Those of Meta's ids that the delivery log knows."""
    if not provider_ids:
        return set()
    rows = await connection.fetch(
        """SELECT provider_id FROM deliveries
           WHERE workspace_id = $1 AND channel_id = $2 AND provider_id = ANY ($3::text[])""",
        workspace_id,
        channel_id,
        provider_ids,
    )
    return {row[0] for row in rows}


async def channel_of(connection: Connection, workspace_id: int, channel_id: int) -> tuple[str, datetime]:
    """Meta's id of the channel, and when it was added."""
    row = await connection.fetchrow(
        "SELECT external_id, created_at FROM channels WHERE workspace_id = $1 AND id = $2", workspace_id, channel_id
    )
    assert row is not None
    return row[0], row[1]


async def unknown(connection: Connection, evidence: Sequence[Evidence]) -> list[Evidence]:
    """What is of no message of ours: another Pombo sends on the channel, or the database was restored from a backup."""
    if not evidence:
        return []
    await plan_by_index(connection)
    keys = [(e.workspace_id, e.channel_id, e.message_id, e.day) for e in evidence]
    return [evidence[row[0] - 1] for row in await connection.fetch(_UNKNOWN, *columns(keys))]
