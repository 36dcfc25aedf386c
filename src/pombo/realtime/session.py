"""One authenticated socket: what its frames ask for, and how it is brought up to date."""

import asyncio
import time
from collections.abc import Callable
from typing import assert_never

from pombo.domain import topics
from pombo.domain.ids import AgentId, WorkspaceId
from pombo.realtime import frames
from pombo.realtime.frames import (
    Auth,
    Error,
    ErrorCode,
    FrameInvalid,
    Looking,
    Ping,
    Pong,
    Ready,
    Resumed,
    SnapshotRequired,
    Subscribe,
    Subscribed,
    Typing,
    Unsubscribe,
    Unsubscribed,
)
from pombo.realtime.hub import Hub, Subscriber, frames_of
from pombo.realtime.outgoing import FRAME_INVALID, TOO_MANY, TRY_AGAIN, Outgoing
from pombo.realtime.presence import PresenceBoard, Seat
from pombo.store import event_log
from pombo.store.database import Database
from pombo.store.errors import DatabaseUnavailable

# A browser with many tabs of conversations has tens.
MOST_TOPICS = 500
# Frames a second that a client may go on sending, and at once: each may cost a query.
_FRAMES_PER_SECOND = 20.0
_FRAMES_AT_ONCE = 100.0
# A browser that missed more is quicker with a snapshot.
MOST_REPLAYED = 5000
_PAGE = 500
# Positions.
_LAST_LEG = 1000
# How far another process is ahead is a matter of milliseconds.
_AHEAD_S = 5.0


class Resuming:
    """What sessions need to be brought up to date; eight at once, for after a restart all browsers come together."""

    def __init__(self, database: Database, hub: Hub, most_replayed: int = MOST_REPLAYED) -> None:
        self.database = database
        self.hub = hub
        self.most_replayed = most_replayed
        self.turns = asyncio.Semaphore(8)


class Session:
    def __init__(
        self,
        subscriber: Subscriber,
        seat: Seat | None,
        board: PresenceBoard,
        resuming: Resuming,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`seat` is None for a program's key, which is nobody's presence."""
        self._subscriber = subscriber
        self._seat = seat
        self._board = board
        self._resuming = resuming
        self._hub = resuming.hub
        self._clock = clock
        self._allowed, self._counted_at = _FRAMES_AT_ONCE, clock()

    @property
    def outgoing(self) -> Outgoing:
        return self._subscriber.outgoing

    @property
    def workspace_id(self) -> WorkspaceId:
        return self._subscriber.workspace_id

    def greet(self) -> None:
        agent_id = None if self._seat is None else AgentId(self._seat.agent_id)
        self._say(Ready(self.workspace_id, agent_id, self._hub.position))

    async def take(self, text: str) -> None:
        """One frame of the client's. Never raises for what is in it."""
        if not self._within_rate():
            self.outgoing.close(TOO_MANY, f"A client sends at most {_FRAMES_PER_SECOND:.0f} frames a second.")
            return
        try:
            frame = frames.decode(text)
        except FrameInvalid as error:
            self.outgoing.close(FRAME_INVALID, shortened(str(error)))
            return
        match frame:
            case Subscribe():
                await self._subscribe(frame)
            case Unsubscribe():
                self._hub.unsubscribe(self._subscriber, frame.topics)
                self._say(Unsubscribed(frame.topics))
            case Looking():
                if seat := self._own_seat():
                    self._board.look(seat, frame.conversation_id)
            case Typing():
                if seat := self._own_seat():
                    self._board.type(seat, frame.conversation_id, frame.typing)
            case Ping():
                self._say(Pong(self._hub.position))
            case Auth():
                self._refuse("already_authenticated", "This socket is authenticated already.")
            case _:
                assert_never(frame)

    # --- subscriptions ----------------------------------------------------------------------------------------------
    async def _subscribe(self, frame: Subscribe) -> None:
        wanted = list(dict.fromkeys(frame.topics))
        if len(self._subscriber.topics.union(wanted)) > MOST_TOPICS:
            self._refuse("too_many_topics", f"A socket follows at most {MOST_TOPICS} topics; unsubscribe from some.")
            return
        # Whoever subscribes again begins again.
        self._hub.unsubscribe(self._subscriber, wanted)
        if frame.after is None:
            self._hub.subscribe(self._subscriber, wanted)
            self._say(Subscribed(wanted, self._hub.position))
        else:
            try:
                await self._resume(wanted, frame.after)
            except (DatabaseUnavailable, TimeoutError):
                self.outgoing.close(TRY_AGAIN, "The database does not answer at the moment; try again.")
                return
        self._show_the_moment(wanted)

    async def _resume(self, wanted: list[str], after: int) -> None:
        async with self._resuming.turns, self._resuming.database.tenant(self.workspace_id) as connection:
            possible = await event_log.can_replay(
                connection, self.workspace_id, after, self._hub.position, self._resuming.most_replayed
            )
        if possible:
            # It was given, so this process has read as far in a moment, or the database is away.
            async with asyncio.timeout(_AHEAD_S):
                await self._hub.reached(after)
        if possible and await self._catch_up(wanted, after):
            self._hub.release(self._subscriber, wanted)
            self._say(Resumed(wanted, self._hub.position))
        else:
            self._hub.unsubscribe(self._subscriber, wanted)
            self._hub.subscribe(self._subscriber, wanted)
            self._say(SnapshotRequired(wanted, self._hub.position))

    async def _catch_up(self, wanted: list[str], reached: int) -> bool:
        """Replays up to where the hub is. Only at the end, over the last few, is held what comes meanwhile: a slow
        client's whole absence takes its time. False when what is to be replayed has been deleted meanwhile."""
        while (upto := self._hub.position) - reached > _LAST_LEG:
            if not await self._replay(wanted, reached, upto):
                return False
            reached = upto
        self._hub.subscribe(self._subscriber, wanted, held=True)
        return await self._replay(wanted, reached, upto)

    async def _replay(self, wanted: list[str], after: int, upto: int) -> bool:
        while after < upto and not self.outgoing.closing.done():
            async with self._resuming.turns, self._resuming.database.tenant(self.workspace_id) as connection:
                page = await event_log.replay(connection, self.workspace_id, wanted, after, upto, _PAGE)
            if page is None:
                return False
            after, events = page
            # The connection is back in the pool by now: the database waits for no browser.
            for part in frames_of(events, after):
                self.outgoing.put(part)
                await self.outgoing.emptied()
        return True

    def _show_the_moment(self, wanted: list[str]) -> None:
        for topic in wanted:
            if topic == topics.PRESENCE:
                self._say(self._board.presence(self.workspace_id))
            elif (conversation_id := topics.conversation_of(topic)) is not None:
                typing = self._board.typing(self.workspace_id, conversation_id)
                if typing.agent_ids:
                    self._say(typing)

    # --- small things -----------------------------------------------------------------------------------------------
    def _say(self, frame: frames.ServerFrame) -> None:
        self.outgoing.put(frames.encode(frame))

    def _refuse(self, code: ErrorCode, message: str) -> None:
        self._say(Error(code, message))

    def _own_seat(self) -> Seat | None:
        if self._seat is None:
            self._refuse("agent_required", "This key acts for no agent: `pombo agent add` makes one that does.")
        return self._seat

    def _within_rate(self) -> bool:
        now = self._clock()
        self._allowed = min(_FRAMES_AT_ONCE, self._allowed + (now - self._counted_at) * _FRAMES_PER_SECOND)
        self._counted_at = now
        self._allowed -= 1
        return self._allowed >= 0


def shortened(reason: str) -> str:
    """To what a close frame holds, 123 bytes."""
    return reason.encode("ascii", "replace")[:123].decode()
