"""What upkeep does for the inbox: opens what was snoozed, and takes deleted labels from conversations."""

from pombo.store import conversations, events, inbox_events, labels
from pombo.store.database import Database
from pombo.store.planning import KEPT

# Short transactions: each changes so many conversations and tells of them.
_CHUNK = 500


async def wake_snoozed(database: Database) -> int:
    """Returns how many it opened. Raises DatabaseUnavailable."""
    total = 0
    while True:
        async with database.transaction(KEPT) as connection:
            woken = await conversations.wake(connection, _CHUNK)
            await inbox_events.append(connection, conversations=woken)
        total += len(woken)
        if woken:
            await _ring(database)
        if len(woken) < _CHUNK:
            return total


async def strip_deleted_labels(database: Database) -> int:
    """Returns from how many conversations it took one. Raises DatabaseUnavailable."""
    total = 0
    while True:
        async with database.transaction(KEPT) as connection:
            stripped = await labels.strip_deleted(connection, _CHUNK)
        total += stripped
        if not stripped:
            return total
        await _ring(database)


async def _ring(database: Database) -> None:
    async with database.borrow() as connection:
        await events.ring(connection)
