"""Notices when a pause, or a halt, is complete: every owner has acknowledged, or its lease has ended."""

import asyncio

from pombo.campaigns.duty import repeat
from pombo.store import pauses
from pombo.store.database import Database
from pombo.telemetry import log


class PauseDuty:
    """Run by every worker: the rows are locked while they are looked at, and passed over by the others."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.bell = asyncio.Event()
        """Set it when something was acknowledged (`run_control.CONTROL_BELL`)."""

    async def run(self, stop: asyncio.Event) -> None:
        await repeat("pauses", self.run_once, self.bell, stop)

    async def run_once(self) -> None:
        """Raises DatabaseUnavailable."""
        async with self._database.transaction() as connection:
            paused = await pauses.complete_pauses(connection)
        async with self._database.transaction() as connection:
            halted = await pauses.complete_halts(connection)
        for workspace_id, run_id in paused:
            log.info("run_paused", workspace_id=workspace_id, run_id=run_id)
        for workspace_id in halted:
            log.warning("workspace_halted", workspace_id=workspace_id)
