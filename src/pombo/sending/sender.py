"""Takes messages from the lanes to Meta: collect, store intents, render, send."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC
from functools import partial
from itertools import count

import msgspec

from pombo.domain.classes import MessageClass
from pombo.domain.content import RenderError
from pombo.domain.sendkey import format_day, format_key
from pombo.meta.errors import connection_error
from pombo.meta.transport import NeverWritten, Reason, Result, Transport
from pombo.sending.direct import direct_payload
from pombo.sending.identity import Identity, clock
from pombo.sending.judge import Judge, SenderStats
from pombo.sending.lane import MOST_INTENTS, Lane
from pombo.sending.outcomes import OutcomeWriter
from pombo.sending.outgoing import Intent, Outgoing
from pombo.sending.pacer import RESERVED_FOR_REPLIES, TokenBucket, reserve_of
from pombo.store import outbox
from pombo.store.database import TRY_AGAIN, Connection, away
from pombo.store.errors import DatabaseUnavailable
from pombo.store.leases import Lease

# A batch this small is not worth a commit of its own while others are in flight: wait for more to become free, but not
# longer than the gather time.
FEW = 32
GATHER_S = 0.002
# Messages whose intent is stored wait armed for a socket, this part of all sockets at most: enough for the answers that
# come in during the next statement, few enough to leave within milliseconds.
ARMED_SHARE = 0.25
# Longer on the way from the rate's gate to the first byte, a message is counted again there.
LATE_S = 0.05
# The worker's part of the global limit may be nothing for now, and is another within so many seconds.
SLICE_S = 1.0
# After this time a statement whose connection broke has committed or never will (the server's time-out for it is less).
UNSURE_S = 10.0

_decode_variables = msgspec.json.Decoder(dict[str, object]).decode


class Sender:
    """One per worker, for all its lanes. `lanes` is the worker's own dict, read live.

    Replies have a way of their own past the rest: some of the sockets and of the room for unsaved outcomes are kept for
    them, and a loop that stores the intents of nothing else.
    """

    def __init__(
        self, transport: Transport, writer: OutcomeWriter, lanes: dict[tuple[int, int], Lane], *, concurrency: int,
        sockets: int, attempts: int, content_failures: int,
    ) -> None:  # fmt: skip
        self._transport = transport
        self._writer = writer
        self._lanes = lanes
        self._concurrency = concurrency
        self._most_armed = max(1, int(min(concurrency, sockets) * ARMED_SHARE))
        self._armed: deque[tuple[bytes, Outgoing]] = deque()
        self._armed_replies: deque[tuple[bytes, Outgoing]] = deque()
        self._held_back: dict[int, tuple[asyncio.TimerHandle, bytes, Outgoing]] = {}
        """Armed as well, but too early for a rate; by message id."""
        self._storing = 0
        self._flying = 0
        self._wake = asyncio.Event()
        self._reply_wake = asyncio.Event()
        self._asked_for_socket: set[bool] = set()
        """For replies (True), for others, or both."""
        self._closing = False
        self._idle = asyncio.Event()
        self._intent_ids = count(1)
        self._turn = 0
        self._unsure: deque[tuple[float, tuple[int, int]]] = deque()
        self._clock = asyncio.get_running_loop().time
        self.hungry = asyncio.Event()
        """Set when messages were collected, so that the lanes may want more."""
        self.budget: int | None = None
        """How many more messages may be collected; None for no limit. (One batch of a cron call.)"""
        self.pacer: TokenBucket | None = None
        """This worker's part of the global limit, if there is one."""
        self.gate: TokenBucket | None = None
        """The same once more, where messages leave."""
        self.identity: Identity | None = None
        """None until the worker is registered; before that there are no lanes."""
        self.before_write: Callable[[], None] | None = None
        """A test's: called between the look at the deadline and the first byte."""
        self.stats = SenderStats()
        self.judge = Judge(
            writer, lanes, self.stats, attempts=attempts, content_failures=content_failures, clock=self._clock
        )

    # --- collecting -----------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something may have become possible: messages were read, outcomes saved, a breaker reset."""
        if not self._wake.is_set():
            self._wake.set()

    def wake_replies(self) -> None:
        """Replies may be due, or one may leave that had to wait."""
        self._reply_wake.set()

    @property
    def quiet(self) -> bool:
        return not (self._flying or self._armed or self._armed_replies or self._held_back or self._storing)

    async def run(self, connection: Connection) -> None:
        """Until `close`, and then until nothing is in flight. Raises DatabaseUnavailable when `connection` breaks.

        Run it several times, each with a connection of its own: while one stores intents, another renders and sends.
        """
        await outbox.bound(connection)
        while not self._closing:
            self._wake.clear()
            batch = self._collect()
            if not batch:
                await self._sleep()
                continue
            await self._store_and_arm(connection, batch)
        self._idle.set()
        await self.drained()

    async def run_replies(self, connection: Connection, read: Callable[[Connection], Awaitable[bool]]) -> None:
        """As `run`, for replies alone: none waits for the intents of hundreds of others.

        `read` reads ahead what is due of them, and tells whether there is more to read. It has no loop of its own:
        each turn of the busy event loop that a reply must wait for takes milliseconds.
        """
        await outbox.bound(connection)
        while True:
            self._reply_wake.clear()
            more = await read(connection)
            if self._closing:  # perhaps meanwhile: whoever waits for what is in flight waits for no more of it
                break
            if batch := self._collect_replies():
                await self._store_and_arm(connection, batch)
            elif not more:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._time_until_something_may_leave(MessageClass.REPLY)):
                        await self._reply_wake.wait()
        self._idle.set()
        await self.drained()

    def close(self) -> None:
        self._closing = True
        self.wake()
        self.wake_replies()

    async def _sleep(self) -> None:
        try:
            async with asyncio.timeout(
                None if self._capacity() <= 0 else self._time_until_something_may_leave(MessageClass.BULK)
            ):
                await self._wake.wait()
        except TimeoutError:
            return
        if self._flying and self._capacity() < FEW:
            await asyncio.sleep(GATHER_S)

    def _time_until_something_may_leave(self, last: MessageClass) -> float | None:
        """None when an event must come first: an answer, a saved outcome, messages read."""
        now = self._clock()
        waits = [wait for lane in self._lanes.values() if (wait := lane.wait(now, last)) is not None]
        if not waits:
            return None
        reserve = reserve_of(last)
        # Several lanes are due at about the same time: one wake-up for those of the next few milliseconds.
        return max(min(waits), GATHER_S, 0.0 if self.pacer is None else self.pacer.wait(now, reserve))

    def _capacity(self) -> int:
        """How many messages may be collected now: sockets, concurrency and unsaved outcomes permitting."""
        coming = self._storing + len(self._armed) + len(self._held_back)
        outstanding = self._flying + coming
        sockets = self._transport.free_sockets() - coming
        room = min(sockets, self._concurrency - outstanding, self._writer.room() - outstanding)
        return min(room + self._most_armed, MOST_INTENTS if self.budget is None else min(self.budget, MOST_INTENTS))

    def _collect(self) -> list[Outgoing]:
        capacity = self._capacity()
        if capacity <= 0:
            return []
        now = self._clock()
        if self.pacer is not None and not (capacity := self.pacer.take(capacity, now, RESERVED_FOR_REPLIES)):
            return []
        batch: list[Outgoing] = []
        # Lanes that have a message that the pair limit delayed are asked too: it may have come due.
        ready = [lane for lane in self._lanes.values() if lane.has_messages]
        if ready:
            # Another lane begins each time; each takes an even part first, then the rest goes to whoever has more.
            self._turn = (self._turn + 1) % len(ready)
            ready = ready[self._turn :] + ready[: self._turn]
            for share in (max(1, capacity // len(ready)), capacity):
                for lane in ready:
                    if (left := capacity - len(batch)) <= 0:
                        break
                    batch += (taken := lane.take(min(share, left), now))
                    if not (taken or lane.buffered):
                        # All that it had waits for others to the same recipients.
                        self.hungry.set()
        self._count(batch)
        if self.pacer is not None:
            self.pacer.give_back(capacity - len(batch))
        return batch

    def _collect_replies(self) -> list[Outgoing]:
        capacity = MOST_INTENTS if self.budget is None else min(self.budget, MOST_INTENTS)
        capacity = min(capacity, self._transport.free_sockets(reserved=True) - len(self._armed_replies))
        now = self._clock()
        if self.pacer is not None and capacity > 0:
            capacity = self.pacer.take(capacity, now)
        batch: list[Outgoing] = []
        for lane in self._lanes.values():
            if len(batch) >= capacity:
                break
            lane.put_back_delayed(now)
            if lane.queues[MessageClass.REPLY].buffered:
                batch += lane.take(capacity - len(batch), now, MessageClass.REPLY)
        self._count(batch)
        if self.pacer is not None and capacity > 0:
            self.pacer.give_back(capacity - len(batch))
        return batch

    def _count(self, batch: list[Outgoing]) -> None:
        if not batch:
            return
        if self.budget is not None:
            self.budget -= len(batch)
        self.stats.collected += len(batch)
        self.hungry.set()

    # --- intents --------------------------------------------------------------------------------------------------

    async def _store_and_arm(self, connection: Connection, batch: list[Outgoing]) -> None:
        identity, intent_id = self.identity, next(self._intent_ids)
        assert identity is not None
        leases: dict[Lease, int] = {}
        """Numbered from 1."""
        messages = [(m.id, leases.setdefault(m.stream.lane.lease, len(leases) + 1), m.attempt) for m in batch]
        self._storing += len(batch)
        identity.open += 1
        try:
            with away():
                at, ids = await outbox.store_intents(
                    connection,
                    identity.worker_id,
                    intent_id,
                    messages,
                    list(leases),
                )
        except (DatabaseUnavailable, *TRY_AGAIN):
            identity.open -= 1
            self._give_up(batch, identity.worker_id, intent_id)
            raise
        finally:
            self._storing -= len(batch)
        self.stats.intents += 1
        granted = batch
        if len(ids) != len(batch):
            wanted = set(ids)
            granted = [m for m in batch if m.id in wanted]
            self._let_go([m for m in batch if m.id not in wanted])
        day = at.astimezone(UTC).date()
        intent = Intent(intent_id, identity, day, len(granted))
        if not granted:
            identity.open -= 1
        self._arm(granted, intent, format_day(day))
        self._feed()

    def _arm(self, granted: list[Outgoing], intent: Intent, day: str) -> None:
        for message in granted:
            message.intent = intent
            message.attempt += 1
            stream = message.stream
            variables = None
            try:
                payload = stream.payload or direct_payload(stream.lane.channel.kind, message.content)
                if message.variables is not None and not payload.is_constant:
                    variables = _decode_variables(message.variables)
                body = payload.render(message.recipient, format_key(message.id, message.attempt, day), variables)
            except RenderError as error:
                stream.unsent -= 1
                self.judge.not_rendered(message, error)
                continue
            message.head = head = stream.lane.head
            self._queue_of(message).append((head.with_body(body), message))

    def _let_go(self, refused: list[Outgoing]) -> None:
        """No longer ours to send, settled by evidence meanwhile, or tried since they were read: the database knows.

        Until it was asked (`holding.let_pass`) they hold later ones to their recipients. Their tokens are gone: the
        bucket may have filled up since they were taken, and others left in their place.
        """
        for message in refused:
            message.stream.unsent -= 1
            lane = message.stream.lane
            lane.open -= 1
            lane.waiting_ids.discard(message.id)
            lane.breaker.undecided(message.id)
            lane.send_away(message)

    def _give_up(self, batch: list[Outgoing], worker_id: int, intent_id: int) -> None:
        """The statement may have committed, or may yet: undone at once, and once more when it can no longer."""
        self._let_go(batch)
        for stream in {message.stream for message in batch}:
            stream.start_over()
        unsure = (worker_id, intent_id)
        self._writer.revoke(*unsure)
        self._unsure.append((self._clock() + UNSURE_S, unsure))

    def tend(self) -> None:
        """Once a second: looks again for intents that may have committed late."""
        while self._unsure and self._unsure[0][0] <= self._clock():
            self._writer.revoke(*self._unsure.popleft()[1])

    async def drained(self) -> None:
        """After `close`: returns when nothing is in flight any more."""
        while not self.quiet:
            self._idle.clear()
            await self._idle.wait()

    def give_back_armed(self) -> None:
        """After the transport has closed: not a byte of these was written."""
        for timer, request, message in self._held_back.values():
            timer.cancel()
            self._armed.append((request, message))
        self._held_back.clear()
        for armed in (self._armed_replies, self._armed):
            while armed:
                _, message = armed.popleft()
                message.stream.unsent -= 1
                self._give_back(message, "Not sent: the worker stopped first.")

    def _give_back(self, message: Outgoing, why: str) -> None:
        self._writer.retry(message, connection_error(why, True), 0.0, counts=False)

    # --- sending --------------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        """Gives armed messages to free sockets, replies first."""
        submit, answered, may_write = self._transport.submit, self._answered, self._may_write
        now = self._clock()
        for armed, reserved in ((self._armed_replies, True), (self._armed, False)):
            while armed:
                request, message = armed[0]
                lane = message.stream.lane
                message.passed_at = now
                if wait := self._pass_gates(message, now):
                    armed.popleft()
                    self._hold_back(request, message, wait)
                    continue
                if not submit(request, answered, message, reserved=reserved, may_write=may_write):
                    lane.gate.give_back(1)
                    if self.gate is not None:
                        self.gate.give_back(1)
                    if reserved not in self._asked_for_socket:
                        self._asked_for_socket.add(reserved)
                        self._transport.when_free(partial(self._socket_free, reserved), reserved=reserved)
                    break
                armed.popleft()
                message.stream.unsent -= 1
                self._flying += 1

    def _pass_gates(self, message: Outgoing, now: float) -> float:
        """0.0, and counted, when the channel's rate and the global one let the message leave; else seconds to wait."""
        lane = message.stream.lane
        wait = lane.pass_gate(message, now)
        if wait or self.gate is None:
            return wait
        reserve = reserve_of(message.stream.message_class)
        if self.gate.take(1, now, reserve):
            return 0.0
        lane.gate.give_back(1)
        return min(self.gate.wait(now, reserve), SLICE_S)

    def _hold_back(self, request: bytes, message: Outgoing, wait: float) -> None:
        """Until the rate lets it leave: it was paced long ago, and has been held up since."""
        loop = asyncio.get_running_loop()
        self._held_back[message.id] = loop.call_later(wait, self._let_go_on, message.id), request, message

    def _let_go_on(self, message_id: int) -> None:
        _, request, message = self._held_back.pop(message_id)
        self._queue_of(message).appendleft((request, message))
        self._feed()

    def _queue_of(self, message: Outgoing) -> deque[tuple[bytes, Outgoing]]:
        return self._armed_replies if message.stream.message_class is MessageClass.REPLY else self._armed

    def _may_write(self, message: Outgoing) -> bool:
        """Not when the lease has run out: others may have taken the message for doubtful, and decide about it.

        Nor when many at once had to wait for their connections to be made, and leaving together would exceed the rate.
        """
        assert message.intent is not None
        if clock() >= message.intent.identity.may_write_until:
            return False
        now = self._clock()
        if now - message.passed_at > LATE_S and self._pass_gates(message, now):
            return False
        if self.before_write is not None:
            self.before_write()
        return True

    def _socket_free(self, reserved: bool) -> None:
        self._asked_for_socket.discard(reserved)
        self._feed()

    def _answered(self, result: Result, message: Outgoing) -> None:
        self._flying -= 1
        if self._armed or self._armed_replies:
            self._feed()
        if isinstance(result, NeverWritten) and result.reason is Reason.WITHDRAWN:
            message.stream.lane.breaker.undecided(message.id)
            self._give_back(message, "Not sent: held up until the worker's lease or a rate had run out.")
        else:
            self.judge.answered(result, message)
        if message.stream.message_class is MessageClass.REPLY:
            # Another to the same person may have waited for this one.
            self.wake_replies()
        if not self._wake.is_set() and len(self._armed) * 2 <= self._most_armed:
            self._wake.set()
        if self._closing and self.quiet:
            self._idle.set()
