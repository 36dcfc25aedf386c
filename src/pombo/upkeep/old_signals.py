"""Signals that nobody listens to any more, and changes of messages that never came."""

from datetime import timedelta

from pombo.store import sweep
from pombo.store.database import Database

# Whatever listens has long heard it; a flow that was switched off for a week begins with what is new.
_SIGNALS = timedelta(days=7)
# Meta posts a webhook for a week at most.
_CHANGES = timedelta(days=14)


async def run_once(database: Database) -> int:
    """Returns how many it deleted. Raises DatabaseUnavailable."""
    async with database.borrow() as connection:
        swept = await sweep.sweep(connection, "signals", _SIGNALS)
        return swept + await sweep.sweep(connection, "message_changes", _CHANGES)
