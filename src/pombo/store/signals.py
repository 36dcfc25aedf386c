"""What people did, for what listens to it later: each event once, in the transaction that applies it."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from pombo.store.database import Connection
from pombo.store.planning import columns


class Signal(NamedTuple):
    workspace_id: int
    channel_id: int
    contact_id: int
    kind: str
    key: str
    """Of the event: the same one signals once."""
    data: str
    """JSON text."""
    at: datetime


async def append(connection: Connection, signals: Sequence[Signal]) -> None:
    if signals:
        await connection.execute(
            """INSERT INTO signals (workspace_id, channel_id, contact_id, kind, key, data, at)
               SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::jsonb[],
                                    $7::timestamptz[]) AS n (workspace_id, channel_id, contact_id, kind, key, data, at)
               ORDER BY 1, 2, 4, 5
               ON CONFLICT (workspace_id, channel_id, kind, key) DO NOTHING""",
            *columns(signals),
        )
