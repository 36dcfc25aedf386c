"""Real time of one API process: its tailer, reader, hub and presence, and the way in for its sockets."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pombo.domain.ids import AgentId, WorkspaceId
from pombo.realtime.hub import Hub, Subscriber
from pombo.realtime.outgoing import KEY_INVALID, MOST_WAITING, TOO_SLOW, Outgoing, Wire
from pombo.realtime.presence import PresenceBoard, Seat
from pombo.realtime.reader import Reader
from pombo.realtime.session import MOST_REPLAYED, Resuming, Session
from pombo.realtime.tailer import Tailer
from pombo.realtime.waiting import wait_for_any
from pombo.store import accounts, event_log, events
from pombo.store.database import Database
from pombo.store.errors import DatabaseUnavailable
from pombo.store.ringer import Ringer
from pombo.telemetry import log

PRESENCE_BELL = "pombo_presence"

_TICK_S = 1.0
# A revoked key's sockets live so long at most.
_KEYS_EVERY_S = 15.0


class TooManySockets(Exception):
    """The workspace has as many open in this process as it may."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose socket it is."""

    workspace_id: WorkspaceId
    key_id: int
    agent_id: AgentId | None


@dataclass(frozen=True, slots=True)
class RealTimeOptions:
    sockets_per_workspace: int = 2000
    most_waiting_bytes: int = MOST_WAITING
    most_replayed: int = MOST_REPLAYED


class RealTime:
    """`run` in a task; meanwhile `socket` for each socket."""

    def __init__(self, database: Database, options: RealTimeOptions | None = None) -> None:
        self.hub = Hub()
        self.dropped = 0
        """Sockets closed because they read too slowly."""
        self._database = database
        self._options = options or RealTimeOptions()
        self._ringer = Ringer(database.url)
        self._tailer = Tailer(database)
        self._reader = Reader(database, self.hub)
        self._resuming = Resuming(database, self.hub, self._options.most_replayed)
        self._board = PresenceBoard(
            secrets.token_hex(4), lambda payload: self._ringer.ring(PRESENCE_BELL, payload), self.hub.tell
        )
        self._holders: dict[Session, Holder] = {}

    def ring(self) -> None:
        """After a commit of this process that has written events: they are seen at once."""
        if self._tailer.leads:
            self._tailer.bell.set()
        else:
            self._ringer.ring(events.BELL)

    @asynccontextmanager
    async def socket(self, holder: Holder, wire: Wire) -> AsyncIterator[Session]:
        """A session for a socket that has said who it is. Raises TooManySockets."""
        if self.hub.count(holder.workspace_id) >= self._options.sockets_per_workspace:
            raise TooManySockets
        outgoing = Outgoing(wire, self._options.most_waiting_bytes)
        subscriber = Subscriber(holder.workspace_id, outgoing)
        seat = None if holder.agent_id is None else Seat(holder.workspace_id, holder.agent_id)
        session = Session(subscriber, seat, self._board, self._resuming)
        await self._reader.admit(subscriber)
        self._holders[session] = holder
        if seat is not None:
            self._board.sit(seat)
        session.greet()
        try:
            yield session
        finally:
            del self._holders[session]
            self.hub.leave(subscriber)
            if seat is not None:
                self._board.rise(seat)
            if outgoing.closing.done() and outgoing.closing.result().code == TOO_SLOW:
                self.dropped += 1
                log.info("socket_too_slow", workspace_id=holder.workspace_id)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Goes on whatever becomes of the database."""
        helpers = [
            asyncio.create_task(self._ringer.run(), name="ringer"),
            asyncio.create_task(self._listen(), name="bells"),
        ]
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._tailer.run(stop))
                tasks.create_task(self._reader.run(stop))
                tasks.create_task(self._tick(stop))
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def _listen(self) -> None:
        bells: dict[str, Callable[[str], None]] = {
            events.BELL: lambda _: self._tailer.bell.set(),
            event_log.NUMBERED_BELL: lambda _: self._reader.bell.set(),
            PRESENCE_BELL: self._board.hear,
        }
        await self._database.keep_listening(bells, began=self._board.ask)

    async def _tick(self, stop: asyncio.Event) -> None:
        looked_at = asyncio.get_running_loop().time()
        while not stop.is_set():
            self._board.tick()
            now = asyncio.get_running_loop().time()
            if now - looked_at >= _KEYS_EVERY_S:
                looked_at = now
                with contextlib.suppress(DatabaseUnavailable):
                    await self.close_revoked()
            await wait_for_any(_TICK_S, stop)

    async def close_revoked(self) -> None:
        """Closes the sockets whose key was revoked since. Raises DatabaseUnavailable."""
        held = {(holder.workspace_id, holder.key_id) for holder in self._holders.values()}
        if not held:
            return
        async with self._database.borrow() as connection:
            valid = await accounts.valid_keys(connection, list(held))
        for session, holder in list(self._holders.items()):
            key = holder.workspace_id, holder.key_id
            # A socket that came meanwhile was not asked for.
            if key in held and key not in valid:
                session.outgoing.close(KEY_INVALID, "The API key was revoked.")
