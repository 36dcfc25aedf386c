"""Keeps the figures of runs short, and ends the runs that are done."""

import asyncio
from contextlib import suppress

from pombo.store import figures
from pombo.store.database import Database
from pombo.store.errors import DatabaseUnavailable
from pombo.store.runs import RunState
from pombo.telemetry import log

# The figures are read with the deltas not yet folded, so this is how late a run's end may be noticed.
_EVERY_S = 1.0


class FiguresDuty:
    """Run by every worker; they take turns by a lock, and more of them than one do no harm."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self.run_once()
            except DatabaseUnavailable as error:
                log.warning("database_away", loop="figures", reason=str(error))
            except Exception:
                # Two workers that met in a deadlock: the next round does it.
                log.exception("figures_failed")
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _EVERY_S)

    async def run_once(self) -> None:
        """Folds all there is, then ends what is done. Raises DatabaseUnavailable."""
        while True:
            async with self._database.transaction() as connection:
                if not await figures.fold(connection):
                    break
        async with self._database.transaction() as connection:
            ended = await figures.end_runs(connection)
        for workspace_id, run_id, state in ended:
            if state is RunState.CANCELLED:
                log.info("run_cancelled", workspace_id=workspace_id, run_id=run_id)
            else:
                log.info("run_completed", workspace_id=workspace_id, run_id=run_id)
