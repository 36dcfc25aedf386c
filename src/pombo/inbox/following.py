"""Shows in their threads what became of messages, as soon as the bell rings (`pombo.store.replies`)."""

import asyncio

from pombo.inbox import uploads
from pombo.store import events, replies
from pombo.store.database import TRY_AGAIN, Database
from pombo.store.errors import DatabaseUnavailable
from pombo.store.planning import KEPT
from pombo.telemetry import log

_BATCH = 500
_UPLOADS = 20
# Nobody rings when a NOTIFY is lost.
_POLL_S = 1.0


class ReplyFollower:
    """Ring `bell` upon a NOTIFY on `replies.BELL`. Any number of processes may run one."""

    def __init__(self, database: Database) -> None:
        self.bell = asyncio.Event()
        self._database = database

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Goes on whatever happens: what failed is still there."""
        while not stop.is_set():
            self.bell.clear()
            taken = 0
            try:
                taken = await self.run_once()
            except DatabaseUnavailable as error:
                log.warning("database_away", loop="replies", reason=str(error))
            except TRY_AGAIN:
                continue
            except Exception:
                log.exception("replies_not_followed")
                await _first(stop, _POLL_S)
            if taken < _BATCH:
                await _first(self.bell, _POLL_S)

    async def run_once(self) -> int:
        """Returns how many changes it followed. Raises DatabaseUnavailable."""
        async with self._database.transaction() as connection:
            followed = await replies.follow(connection, _BATCH)
        if followed:
            await self._ring()
        # Last, so that a reply with a file that cannot be sent for an unknown reason holds up nobody else's state.
        async with self._database.transaction(KEPT) as connection:
            sent = await uploads.send_uploaded(connection, _UPLOADS)
        if sent:
            await self._ring()
        return followed

    async def _ring(self) -> None:
        async with self._database.borrow() as connection:
            await events.ring(connection)


async def _first(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
