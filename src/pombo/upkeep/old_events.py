"""Events that no browser will ask for any more: whoever was away for longer fetches anew."""

from datetime import timedelta

from pombo.store import event_log
from pombo.store.database import Database

_BATCH = 5000


async def run_once(database: Database, retention: timedelta) -> int:
    """Returns how many it deleted. Raises DatabaseUnavailable."""
    async with database.borrow() as connection:
        # Only what has a position is deleted, and where no API runs nobody gives any.
        while await event_log.number(connection, _BATCH) == _BATCH:
            pass
        return sum(
            [
                await event_log.forget(connection, workspace_id, retention)
                for workspace_id in await event_log.workspaces_with_events(connection)
            ]
        )
