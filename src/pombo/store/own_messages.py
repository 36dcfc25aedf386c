"""Which of a channel's outgoing messages are ours."""

from collections.abc import Sequence

from pombo.store.database import Connection


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


async def external_id(connection: Connection, workspace_id: int, channel_id: int) -> str:
    """Meta's id of the channel."""
    found: str = await connection.fetchval(
        "SELECT external_id FROM channels WHERE workspace_id = $1 AND id = $2", workspace_id, channel_id
    )
    return found
