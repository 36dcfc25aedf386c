"""Gives positions to events as they become visible: at once where the lease is, else within a second."""

import asyncio

from pombo.realtime.waiting import wait_for_any
from pombo.store.database import Database
from pombo.store.errors import DatabaseUnavailable
from pombo.store.tail_lease import TailLease, open_tail_lease
from pombo.telemetry import log

# Nobody rings when a NOTIFY is lost; also how often those without the lease number, in case its holder is stopped.
_POLL_S = 1.0
# Between two numberings: what comes meanwhile goes into the next. A batch costs 1 to 2 ms of the server's time.
_GAP_S = 0.003
# Between two tries for the lease while bells ring.
_TRY_EVERY_S = 0.1
# Events of one statement; only after the tailers were away is there ever so much.
_BATCH = 5000


class Tailer:
    """Ring `bell` upon a NOTIFY on `events.BELL`."""

    def __init__(self, database: Database) -> None:
        self.bell = asyncio.Event()
        self.leads = False
        self._database = database

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Goes on whatever happens."""
        while not stop.is_set():
            try:
                async with open_tail_lease(self._database.url) as lease:
                    await self._hold(lease, stop)
            except DatabaseUnavailable as error:
                log.warning("database_away", loop="tailer", reason=str(error))
            except Exception:
                log.exception("realtime_failed", loop="tailer")
            finally:
                self.leads = False
            if not stop.is_set():
                await wait_for_any(_POLL_S, stop)

    async def _hold(self, lease: TailLease, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        numbered_at = float("-inf")
        try:
            while not stop.is_set():
                self.bell.clear()
                self.leads = self.leads or await lease.take()
                if self.leads or loop.time() - numbered_at >= _POLL_S:
                    while await lease.number(_BATCH) == _BATCH:
                        pass
                    numbered_at = loop.time()
                await wait_for_any(_GAP_S if self.leads else _TRY_EVERY_S, stop)
                # Without the lease a bell only means that it may be free by now.
                await wait_for_any(_POLL_S, self.bell, stop)
        finally:
            if self.leads:
                await lease.give_up()
