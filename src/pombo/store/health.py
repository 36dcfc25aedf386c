"""A look at the whole: what `pombo doctor` tells."""

from datetime import datetime
from typing import NamedTuple

from pombo.store.database import Connection


class Health(NamedTuple):
    now: datetime
    """The database's clock."""
    server_version: str
    workers: int
    webhooks_waiting: int
    doubts: int
    """Held ones included."""
    held: int
    channels_in_haste: int
    """Channels whose grace is not longer than it must be."""


async def look(connection: Connection, shortest_grace_s: float) -> Health:
    row = await connection.fetchrow(
        """SELECT clock_timestamp(), current_setting('server_version'),
                  (SELECT count(*) FROM workers WHERE expires_at > clock_timestamp()),
                  (SELECT count(*) FROM webhook_queue), (SELECT count(*) FROM doubts), (SELECT count(held) FROM doubts),
                  (SELECT count(*) FROM channels WHERE doubt_grace_s <= $1)""",
        shortest_grace_s,
    )
    assert row is not None
    return Health(*row)
