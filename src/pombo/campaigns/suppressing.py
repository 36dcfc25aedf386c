"""Puts people on the suppression list, and takes what campaigns have queued for them out of the queue."""

from collections.abc import Sequence
from typing import NamedTuple

from pombo.store import suppressions
from pombo.store.database import Database
from pombo.store.suppressions import Suppression

# People a transaction: some 20 ms, and as many probes as runs are being sent.
CHUNK = 1_000


class Suppressing(NamedTuple):
    added: int
    """Who was not on the list yet."""
    withdrawn: int
    """Queued messages that are now cancelled."""


async def suppress(database: Database, people: Sequence[Suppression]) -> Suppressing:
    """Chunk by chunk; doing it again changes nothing. What is on its way to Meta at this moment still leaves."""
    added = withdrawn = 0
    for start in range(0, len(people), CHUNK):
        chunk = people[start : start + CHUNK]
        # A worker's connection, since a settlement touches what belongs to no workspace; the statements name it.
        async with database.transaction() as connection:
            added += await suppressions.suppress(connection, chunk)
            withdrawn += await suppressions.withdraw(connection, chunk)
    return Suppressing(added, withdrawn)
