"""Receipts that wait for their message: looked at again, and swept when they are nobody's.

Sending, and what brings messages of other programs, look for kept receipts after their commit, and ingest looks for
messages after its own. When a process dies between its commit and its look, nobody has looked; so what was kept of late
is looked at again here, and in the first round, which follows every crash of the process that did this, all of it.
"""

from datetime import UTC, datetime, timedelta

from pombo.store import app_receipts, early_receipts, events, sweep
from pombo.store.database import Database

# Echoes and statuses of other programs on the same Page or number are kept too, and match no delivery. Meta has been
# seen to be hours late; days late it is of no use to anyone.
_AGE = timedelta(days=3)
# How far each round looks back behind the former: longer than any outcome waits to be written.
_OVERLAP = timedelta(minutes=5)
# Of each; while one is applied, those who answered its messages wait.
_PAGE = 200
_EVER = datetime(1970, 1, 1, tzinfo=UTC)


class KeptReceipts:
    """The duty, with its memory of how far it has looked."""

    def __init__(self) -> None:
        self._since = _EVER

    async def run_once(self, database: Database) -> int:
        """Returns how many it swept. Raises DatabaseUnavailable."""
        async with database.borrow() as connection:
            began: datetime = await connection.fetchval("SELECT clock_timestamp()")
            await self._look_again(database)
            self._since = began - _OVERLAP
            swept = await sweep.sweep(connection, "pending_receipts", _AGE)
            return swept + await sweep.sweep(connection, "watermarks", _AGE)

    async def _look_again(self, database: Database) -> None:
        receipt = watermark = None
        while True:
            async with database.transaction() as connection:
                waiting = await early_receipts.kept_receipts(connection, self._since, receipt, _PAGE)
                marks = await early_receipts.kept_watermarks(connection, self._since, watermark, _PAGE)
                if not waiting and not marks:
                    return
                await early_receipts.catch_up(connection, waiting, marks)
                changed = await app_receipts.follow(connection, (), waiting, marks)
            if changed:
                async with database.borrow() as connection:
                    await events.ring(connection)
            receipt = waiting[-1] if waiting else receipt
            watermark = marks[-1] if marks else watermark
