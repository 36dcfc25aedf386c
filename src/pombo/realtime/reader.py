"""Reads what has got positions and gives it to the hub, in every API process."""

import asyncio

from pombo.domain.ids import WorkspaceId
from pombo.realtime.hub import Hub, Subscriber
from pombo.realtime.waiting import wait_for_any
from pombo.store import event_log
from pombo.store.database import Connection, Database
from pombo.store.errors import DatabaseUnavailable
from pombo.telemetry import log

# Nobody rings when a NOTIFY is lost.
_POLL_S = 1.0
# Positions of one read.
_BATCH = 1000
# What a frame costs a socket: while those of the last batch leave, the next one gathers. So a hundred sockets hear of
# single events, and with thousands each frame holds several.
_FRAME_COST_S = 20e-6
_LONGEST_GAP_S = 0.025


class Reader:
    """Ring `bell` upon a NOTIFY on `event_log.NUMBERED_BELL`."""

    def __init__(self, database: Database, hub: Hub) -> None:
        self.bell = asyncio.Event()
        self._database = database
        self._hub = hub
        self._begun = asyncio.Event()
        # Held from a read's beginning until its delivery.
        self._reading = asyncio.Lock()

    async def admit(self, subscriber: Subscriber) -> None:
        """Into the hub. Not during a read, which may have begun without the subscriber's workspace and would move the
        hub's position past its events."""
        await self._begun.wait()
        if self._hub.count(subscriber.workspace_id):
            self._hub.enter(subscriber)
        else:
            async with self._reading:
                self._hub.enter(subscriber)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Goes on whatever happens."""
        while not stop.is_set():
            try:
                async with self._database.borrow(for_lanes=True) as connection:
                    await event_log.always_by_index(connection)
                    if not self._begun.is_set():
                        self._hub.position = await event_log.tail(connection)
                        self._begun.set()
                    while not stop.is_set():
                        self.bell.clear()
                        if not await self._read(connection):
                            await wait_for_any(_POLL_S, self.bell, stop)
            except DatabaseUnavailable as error:
                log.warning("database_away", loop="events", reason=str(error))
                await wait_for_any(_POLL_S, stop)
            except Exception:
                log.exception("realtime_failed", loop="events")
                await wait_for_any(_POLL_S, stop)

    async def _read(self, connection: Connection) -> bool:
        """Whether there may be more."""
        after = self._hub.position
        async with self._reading:
            workspaces: list[WorkspaceId] = self._hub.workspaces
            news = await event_log.read_new(connection, workspaces, after, _BATCH)
            for workspace_id in news.torn:
                self._hub.start_again(workspace_id, "Too much was missed; connect again and fetch anew.")
            frames = self._hub.publish(news.events, news.upto)
        if frames:
            await asyncio.sleep(min(frames * _FRAME_COST_S, _LONGEST_GAP_S))
        return news.upto >= after + _BATCH
