"""Moves the audiences of new runs into the outbox, chunk by chunk.

Each chunk is one transaction: the staged lines go, who is new joins the run, their messages are queued, the figures
and the cursor move. So a crash between any two instructions leaves a run that goes on where it stood. Any number of
workers share the work: a run is locked while one of its chunks is under way, and others take other runs.
"""

import asyncio

from pombo.store import audience, runs
from pombo.store.database import Connection, Database
from pombo.store.errors import DatabaseUnavailable
from pombo.store.runs import Expansion, Source
from pombo.telemetry import log

# Large enough that the transaction's own cost is small, small enough that its locks are
# held for about a tenth of a second.
CHUNK = 5_000
# The bell is only a hint; without it a new run is found after this long.
_POLL_S = 1.0


class Expander:
    def __init__(self, database: Database, *, chunk: int = CHUNK) -> None:
        self._database = database
        self._chunk = chunk
        self.bell = asyncio.Event()
        """Set it when a run may be waiting (`runs.NEW_RUN_BELL`)."""

    async def run(self, stop: asyncio.Event) -> None:
        """Expands whatever comes until `stop` is set; the chunk at hand is finished."""
        while not stop.is_set():
            self.bell.clear()
            try:
                worked = await self.run_once()
            except DatabaseUnavailable as error:
                log.warning("database_away", loop="expander", reason=str(error))
                worked = False
            except Exception:
                # A deadlock, or a run that cannot be expanded: sending must not end for it.
                log.exception("expansion_failed")
                worked = False
            if not worked:
                await self._wait(stop)

    async def _wait(self, stop: asyncio.Event) -> None:
        waiting = [asyncio.create_task(event.wait()) for event in (stop, self.bell)]
        try:
            await asyncio.wait(waiting, timeout=_POLL_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    async def run_once(self) -> bool:
        """One chunk of one run; False when none waits. Raises DatabaseUnavailable."""
        async with self._database.transaction() as connection:
            expansion = await runs.claim_unexpanded(connection)
            if expansion is None:
                return False
            taken = await self._expand(connection, expansion)
        if taken:
            async with self._database.borrow() as connection:
                await audience.ring_due(connection)
        return True

    async def _expand(self, connection: Connection, expansion: Expansion) -> int:
        match expansion.source:
            case Source.STAGED:
                return await self._expand_staged(connection, expansion)
            case Source.CONTACTS:
                return await self._expand_contacts(connection, expansion)

    async def _expand_staged(self, connection: Connection, expansion: Expansion) -> int:
        moved = await audience.move_staged(
            connection,
            expansion.workspace_id,
            expansion.run_id,
            expansion.expanded_to,
            self._chunk,
            expansion.planned_at,
        )
        await runs.advance(
            connection,
            expansion,
            expanded_to=expansion.expanded_to if moved.last is None else moved.last,
            channel_id=0,
            expanded=moved.taken < self._chunk,
            left_out=moved.left_out,
        )
        return moved.taken

    async def _expand_contacts(self, connection: Connection, expansion: Expansion) -> int:
        channels = sorted(set(expansion.channel_ids))
        left = [channel for channel in channels if channel >= expansion.expanded_channel_id]
        after = expansion.expanded_to if left and left[0] == expansion.expanded_channel_id else 0
        channel = left[0]
        moved = await audience.move_contacts(
            connection, expansion.workspace_id, expansion.run_id, channel, after, self._chunk, expansion.planned_at
        )
        expanded_to = 0
        following = left[1] if len(left) > 1 else None
        if moved.taken == self._chunk and moved.last is not None:
            expanded_to, following = moved.last, channel
        await runs.advance(
            connection,
            expansion,
            expanded_to=expanded_to,
            channel_id=channel if following is None else following,
            expanded=following is None,
            left_out=moved.left_out,
        )
        return moved.taken
