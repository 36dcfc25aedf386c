"""Cancels what waits of the runs that are to be cancelled, chunk by chunk.

A pass goes through each channel's messages from the first to the last. What is in flight then is passed over; should it
be put back for another attempt, the next pass finds it. The run is over when all is settled, what is in doubt included
(see `pombo.campaigns.figures`).
"""

import asyncio
from datetime import datetime

from pombo.campaigns.duty import repeat
from pombo.domain.ids import RunId, WorkspaceId
from pombo.store import cancelling
from pombo.store.database import Database
from pombo.store.outbox import BEGINNING

# Messages, or lines, a transaction: about a tenth of a second, which is how long it keeps a resume or a pause waiting.
CHUNK = 2_000


class CancelDuty:
    """Run by every worker: a run's row is locked for each chunk, and another worker passes it over."""

    def __init__(self, database: Database, *, chunk: int = CHUNK) -> None:
        self._database = database
        self._chunk = chunk
        self.bell = asyncio.Event()
        """Set it when a run is to be cancelled (`run_control.CONTROL_BELL`)."""

    async def run(self, stop: asyncio.Event) -> None:
        await repeat("cancelling", self.run_once, self.bell, stop)

    async def run_once(self) -> None:
        """One pass through each run that is being cancelled. Raises DatabaseUnavailable."""
        async with self._database.borrow() as connection:
            found = await cancelling.list_cancelling(connection)
        for workspace_id, run_id in found:
            await self._cancel(workspace_id, run_id)

    async def _cancel(self, workspace_id: WorkspaceId, run_id: RunId) -> None:
        channel_ids: list[int] = []
        dropped = self._chunk
        while dropped == self._chunk:
            async with self._database.transaction() as connection:
                run = await cancelling.hold(connection, workspace_id, run_id)
                if run is None:
                    return
                dropped = await cancelling.drop_lines(connection, run, self._chunk)
                channel_ids = run.channel_ids
        for channel_id in sorted(set(channel_ids)):
            after: tuple[datetime, int] | None = BEGINNING
            while after is not None:
                async with self._database.transaction() as connection:
                    run = await cancelling.hold(connection, workspace_id, run_id)
                    if run is None:
                        return
                    after = await cancelling.cancel_ready(connection, run, channel_id, after, self._chunk)
