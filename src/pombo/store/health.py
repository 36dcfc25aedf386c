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


async def look(connection: Connection) -> Health:
    row = await connection.fetchrow(
        """SELECT clock_timestamp(), current_setting('server_version'),
                  (SELECT count(*) FROM workers WHERE expires_at > clock_timestamp()),
                  (SELECT count(*) FROM webhook_queue), (SELECT count(*) FROM doubts)"""
    )
    assert row is not None
    return Health(*row)
