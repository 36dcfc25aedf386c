"""One worker: its identity and heartbeat, the channels it has leased, and the life of their lanes."""

import asyncio
import contextlib
import math
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from pombo.domain.channels import ChannelState
from pombo.domain.classes import MessageClass, direct_stream
from pombo.domain.content import Content
from pombo.domain.ids import WorkerId, WorkspaceId
from pombo.domain.outcomes import ErrorScope
from pombo.meta.downloads import Downloads
from pombo.meta.payloads import messages_target
from pombo.meta.transport import RequestHead, Transport
from pombo.sending import holding, rates
from pombo.sending.breaker import Breaker
from pombo.sending.breaker_events import follow
from pombo.sending.channel_jobs import CONVERSATIONS_PER_S, ChannelJobs
from pombo.sending.identity import clock
from pombo.sending.lane import Lane
from pombo.sending.outcomes import OutcomeWriter
from pombo.sending.pacer import TokenBucket
from pombo.sending.pauses import Acknowledger
from pombo.sending.rates import GlobalRate
from pombo.sending.reader import Reader, ReaderStats
from pombo.sending.registration import Registration
from pombo.sending.resolver import Resolver
from pombo.sending.sender import Sender
from pombo.sending.stats import snapshot
from pombo.sending.streams import Streams
from pombo.store import channels, cooldowns, leases
from pombo.store.channels import Channel, Stop
from pombo.store.cooldowns import Cause, Standing
from pombo.store.database import TRY_AGAIN, Connection, Database
from pombo.store.errors import DatabaseUnavailable
from pombo.store.leases import Lease
from pombo.store.media_files import MediaFiles
from pombo.store.secrets import SecretBox, SecretError
from pombo.telemetry import log

# How often a worker looks for channels to take, hands over what is above its share, and tells of itself.
TEND_S = 1.0
# The bell (NOTIFY) wakes the reader at once; this is for what no bell was rung for.
POLL_S = 1.0
# Between two reads, or looks at which lanes run low; what the fastest lane holds lasts several times as long.
LOOK_S = 0.01
_RETRY_S = 0.5
# Statements of intents under way at a time, besides those of replies.
SENDERS = 2
# Sockets that nothing but replies may use, as a part of all: at 80 ms each carries 12 replies a second.
REPLY_SOCKETS = 0.02
# Messages between being collected and having their outcome saved, at most: at 25,000/s and 60 ms from one to the other
# that is 1,500; with half as many the sender waits for the writer a tenth of the time.
UNSAVED_A_SOCKET = 4
# A stopping worker gives what is in flight this long to be answered; what is not is doubtful. With the writing of
# outcomes it ends well within the 30 s that service managers allow.
GRACE_S = 12.0
WRITE_GRACE_S = 6.0

_decode_content = msgspec.json.Decoder(Content).decode


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """From the settings; see there."""

    graph_api_url: str
    graph_api_version: str
    concurrency: int = 500
    max_sockets: int = 500
    global_rate: float | None = None
    """Messages/s of all channels and workers together."""
    attempts: int = 3
    content_failures: int = 20
    """In a row; 0 for never."""
    answer_timeout_s: float = 30.0
    lease_s: float = 8.0
    breaker_enabled: bool = True
    breaker_threshold: int = 5
    breaker_timeout_s: float = 300.0
    outcome_batch: int = 200
    outcome_linger_s: float = 2.0
    conversations_per_s: float = CONVERSATIONS_PER_S
    most_media_bytes: int = 25 * 2**20


def worker_name(pid: int) -> str:
    """What a process of this machine is called in the table of workers."""
    return f"{socket.gethostname()}:{pid}"


class Worker:
    def __init__(
        self,
        database: Database,
        box: SecretBox,
        options: WorkerOptions,
        *,
        budget: int | None = None,
        workspace_id: WorkspaceId | None = None,
        files: MediaFiles | None = None,
    ) -> None:
        """With `budget` it sends at most so many messages, with `workspace_id` those of one workspace.

        Without `files` it fetches no media.
        """
        self._database = database
        self._box = box
        self._options = options
        self._workspace_id = workspace_id
        self._name = worker_name(os.getpid())
        self._clock = asyncio.get_running_loop().time
        self.lanes: dict[tuple[int, int], Lane] = {}
        self.saved = asyncio.Event()
        """Set after each batch of outcomes, for whoever waits for figures to change; they clear it."""
        self.worker_id = WorkerId(0)
        self.transport = Transport(
            options.graph_api_url,
            max_sockets=options.max_sockets,
            reserved_sockets=min(options.max_sockets - 1, math.ceil(options.max_sockets * REPLY_SOCKETS)),
            answer_timeout=options.answer_timeout_s,
        )
        self.writer = OutcomeWriter(
            database,
            limit=UNSAVED_A_SOCKET * options.max_sockets,
            batch=options.outcome_batch,
            linger_s=options.outcome_linger_s,
            saved=self._saved,
        )
        self.sender = Sender(
            self.transport,
            self.writer,
            self.lanes,
            concurrency=options.concurrency,
            sockets=options.max_sockets,
            attempts=options.attempts,
            content_failures=options.content_failures,
        )
        self.sender.budget = budget
        self.resolver = Resolver(options.attempts)
        self.registration = Registration(database.url, self._name, options.lease_s, transient=budget is not None)
        self._global_rate = None if options.global_rate is None else GlobalRate(options.global_rate, self._clock)
        if self._global_rate is not None:
            self.sender.pacer, self.sender.gate = self._global_rate.pacer, self._global_rate.gate
        self.read_stats = ReaderStats()
        self._reader = Reader(self.read_stats, MessageClass.TRANSACTIONAL, MessageClass.BULK)
        self._reply_reader = Reader(self.read_stats, MessageClass.REPLY, MessageClass.REPLY)
        self.jobs = ChannelJobs(
            database,
            box,
            self.transport,
            self.lanes,
            api_version=options.graph_api_version,
            files=files,
            downloads=Downloads(options.graph_api_url, options.most_media_bytes),
            conversations_per_s=options.conversations_per_s,
            may_call=lambda: clock() < self.registration.identity.may_write_until,
            stop_lane=self.sender.judge.consequences.stop,
            clock=self._clock,
        )
        self._pauses = Acknowledger(self.lanes, self.transport)
        self._streams = Streams(self.lanes)
        self._bell = asyncio.Event()
        self._lease_bell = asyncio.Event()
        self._stopping = False
        self._followed: tuple[int, int, int] | None = None
        """The leases that the lanes follow, if they follow all."""
        self._channels_seen: datetime | None = None

    # --- life -----------------------------------------------------------------------------------------------------

    def ring(self) -> None:
        """Something is due, or a channel or stream has changed."""
        self._bell.set()
        self.sender.hungry.set()

    def ring_direct(self, workspace_id: int, channel_id: int, message_class: MessageClass) -> None:
        """A direct message is due: only its stream is looked at."""
        if (lane := self.lanes.get((workspace_id, channel_id))) is None:
            return
        run_id = direct_stream(message_class)
        if run_id not in lane.streams:
            # Whether it is open is for the database to say.
            self.ring()
            return
        lane.streams[run_id].more = True
        if message_class is MessageClass.REPLY:
            self.sender.wake_replies()
        else:
            self.sender.hungry.set()

    def ring_leases(self) -> None:
        """A worker has come or gone, or a channel was added or changed."""
        self._lease_bell.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then ends what is in flight, writes all outcomes and hands the channels over."""
        await self.transport.start()
        writing = asyncio.create_task(self.writer.run(), name="outcomes")
        sending = [
            asyncio.create_task(self._again(loop), name="sender")
            for loop in (*[self.sender.run] * SENDERS, self._send_replies)
        ]
        # To the very end: what is in flight must not look like a dead worker's.
        beating = asyncio.create_task(self._again(self.registration.beat, while_stopping=True), name="heartbeat")
        loops = [
            asyncio.create_task(self._again(self._tend), name="leases"),
            asyncio.create_task(self._again(self._read), name="reader"),
            asyncio.create_task(self.jobs.run(lambda: self.worker_id), name="channel jobs"),
        ]
        stopped = asyncio.create_task(stop.wait(), name="stop")
        try:
            parts = [writing, beating, *sending, *loops, stopped]
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()  # a bug: end loudly
        finally:
            self._stopping = True
            stopped.cancel()
            await self._shut_down(writing, beating, sending, loops)

    async def _shut_down(
        self,
        writing: asyncio.Task[None],
        beating: asyncio.Task[None],
        sending: list[asyncio.Task[None]],
        loops: list[asyncio.Task[None]],
    ) -> None:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await self.jobs.close()
        self.sender.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await self.sender.drained()
        await self.transport.close()
        self.sender.give_back_armed()
        self.writer.close()
        done, _ = await asyncio.wait([writing], timeout=WRITE_GRACE_S)
        for task in (*sending, writing, beating):
            task.cancel()
        await asyncio.gather(*sending, writing, beating, return_exceptions=True)
        if not done:
            log.error("outcomes_lost_to_doubt", unsaved=self.writer.stats.unsaved)
            # The leases end by themselves, and the next owners find the intents.
        else:
            with contextlib.suppress(DatabaseUnavailable):
                async with self._database.borrow() as connection:
                    await leases.retire(connection, self.worker_id)
        # Not before: the transport is closed, and what was not saved is not to come any more.
        await self.registration.release_all()

    async def _again(self, loop: Callable[[Connection], Awaitable[None]], *, while_stopping: bool = False) -> None:
        """Runs a loop that needs the database, again whenever it was away."""
        while while_stopping or not self._stopping:
            try:
                async with self._database.borrow(for_lanes=True) as connection:
                    await loop(connection)
                return
            except (DatabaseUnavailable, *TRY_AGAIN) as error:
                log.warning("database_away", loop=loop.__name__, reason=str(error))
                await asyncio.sleep(_RETRY_S)

    def _saved(self) -> None:
        self.saved.set()
        self.sender.wake()

    # --- reading --------------------------------------------------------------------------------------------------

    async def _read(self, connection: Connection) -> None:
        polled_at = -POLL_S
        while True:
            self.sender.hungry.clear()
            now = self._clock()
            if self._bell.is_set() or now - polled_at >= POLL_S:
                self._bell.clear()
                polled_at = now
                await self._streams.refresh(connection, self.worker_id)
                self.sender.wake_replies()
                await self._pauses.look(connection, self.worker_id)
            await self._pauses.acknowledge(connection, self.worker_id)
            if await self._reader.fill(connection, self.lanes.values(), now):
                self.sender.wake()
            if self._reader.found_more:
                # What was read leaves first: another page costs the loop as much time as hundreds of messages do.
                await asyncio.sleep(LOOK_S)
                continue
            patience = max(0.0, polled_at + POLL_S - self._clock())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(patience, LOOK_S) if self._pauses.waiting else patience):
                    await self.sender.hungry.wait()
                if not self._bell.is_set():
                    # Something was taken from some lane; looking at all of them each time is not worth it.
                    await asyncio.sleep(LOOK_S)

    async def _send_replies(self, connection: Connection) -> None:
        await self.sender.run_replies(connection, self._read_replies)

    async def _read_replies(self, connection: Connection) -> bool:
        """What the bell has named, or, since `_read` has looked at all streams, any."""
        await self._reply_reader.fill(connection, self.lanes.values(), self._clock())
        return self._reply_reader.found_more

    # --- leases ---------------------------------------------------------------------------------------------------

    async def _tend(self, connection: Connection) -> None:
        await leases.bound(connection)
        while True:
            if self.registration.lost.is_set():
                await self._register(connection)
            if self._global_rate is not None:
                await self._global_rate.tend(connection, self.worker_id)
            await leases.acquire(connection, self.worker_id, self._workspace_id)
            await self._follow_leases(connection)
            await self._hear_of_throttles(connection)
            await self._hand_over(connection)
            await self._refresh_channels(connection)
            for workspace_id, channel_id, _ in await leases.take_commands(connection, self.worker_id):
                if lane := self.lanes.get((workspace_id, channel_id)):
                    lane.breaker.reset()
                    self.sender.wake()
            await leases.adopt_orphans(connection)
            await self.resolver.run_once(connection, self.worker_id)
            await self.registration.release_former()
            self.sender.tend()
            await holding.let_pass(connection, self.lanes.values(), self._clock())
            await rates.tend_lanes(connection, self.lanes.values(), self._clock())
            self.sender.wake()
            await leases.publish(connection, self.worker_id, snapshot(self, self._name))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TEND_S):
                    await self._lease_bell.wait()
            self._lease_bell.clear()

    async def _register(self, connection: Connection) -> None:
        for lane in self.lanes.values():
            lane.drain()
            self._pauses.left(lane)
        self.lanes.clear()
        self.sender.identity = await self.registration.register(connection)
        self.worker_id = self.writer.worker_id = self.registration.worker_id

    async def _follow_leases(self, connection: Connection) -> None:
        """A lane for each channel that is ours, also if the answer that said so was lost; none for any other."""
        stamp = await leases.stamp(connection, self.worker_id)
        if stamp == self._followed:
            return
        owned = {
            (lease.workspace_id, lease.channel_id): lease for lease in await leases.owned(connection, self.worker_id)
        }
        for key in [key for key, lane in self.lanes.items() if owned.get(key) != lane.lease]:
            lane = self.lanes.pop(key)
            lane.drain()
            self._pauses.left(lane)
        missing = owned.keys() - self.lanes.keys()
        # A channel whose secret does not open is looked at again each time.
        self._followed = None if missing else stamp
        if not missing:
            return
        learned = await leases.learned_rates(connection, self.worker_id)
        standing = await cooldowns.of_worker(connection, self.worker_id)
        breakers = {(s.workspace_id, s.channel_id): s for s in standing if s.cause is Cause.BREAKER}
        taken: dict[tuple[int, int], Lane] = {}
        for channel in await channels.get_channels(connection, missing):
            key = (channel.workspace_id, channel.id)
            head = await self._head(connection, channel)
            if head is not None:
                rate = learned.get(key, channel.rate_per_second)
                taken[key] = self._lane(channel, owned[key], head, rate, breakers.get(key))
        await holding.load(connection, self.worker_id, taken.values(), self._clock())
        self.lanes |= taken
        if taken:
            log.info("channels_taken", worker=self.worker_id, count=len(taken))
            self.ring()

    def _lane(self, channel: Channel, lease: Lease, head: RequestHead, rate: float, breaker: Standing | None) -> Lane:
        options = self._options
        lane = Lane(
            channel,
            lease,
            head,
            TokenBucket(min(channel.rate_per_second, rate), self._clock()),
            Breaker(options.breaker_threshold, options.breaker_timeout_s, options.breaker_enabled),
        )
        lane.stopped = channel.state is ChannelState.STOPPED
        if breaker is not None:
            lane.breaker.take_over(breaker.step, breaker.reason, breaker.left_s, self._clock())
            if not options.breaker_enabled:
                # Of before it was switched off: nothing would close it any more.
                self.writer.breaker(lane, None)
        follow(lane, self.writer, self._clock)
        return lane

    async def _hear_of_throttles(self, connection: Connection) -> None:
        """What Meta told other workers, or the channels' last owners."""
        now = self._clock()
        for standing in await cooldowns.of_worker(connection, self.worker_id):
            lane = self.lanes.get((standing.workspace_id, standing.channel_id))
            if lane is not None and standing.cause is Cause.THROTTLE:
                lane.resume_at = max(lane.resume_at, now + standing.left_s)
                lane.throttled = max(lane.throttled, standing.step)

    async def _head(self, connection: Connection, channel: Channel) -> RequestHead | None:
        """None, and the channel stopped, when its token cannot be read: others must not suffer for it."""
        try:
            token = self._box.open(channel.workspace_id, channel.token)
        except SecretError as error:
            if channel.state is ChannelState.ACTIVE:  # else it is known, and looked at again each round
                log.error("channel_secret_unreadable", channel=channel.id)
            stop = Stop(channel.workspace_id, channel.id, channel.token, ErrorScope.CHANNEL, "secret", str(error))
            await channels.stop_channels(connection, [stop])
            return None
        return self.transport.head(
            "POST",
            messages_target(self._options.graph_api_version, channel.external_id),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )

    async def _refresh_channels(self, connection: Connection) -> None:
        """Takes up a new token, rate or state."""
        self._channels_seen, changed = await channels.changed_channels(connection, self.worker_id, self._channels_seen)
        for channel in changed:
            if (lane := self.lanes.get((channel.workspace_id, channel.id))) is None:
                continue
            stopped = channel.state is ChannelState.STOPPED
            if channel == lane.channel and stopped == lane.stopped:
                continue
            if not lane.stop_saved and channel.token == lane.channel.token:
                continue  # the row does not tell yet; with a new token the channel goes on whatever the old one met
            if channel.token != lane.channel.token:
                head = await self._head(connection, channel)
                lane.head, stopped = head or lane.head, stopped or head is None
            if channel.rate_per_second != lane.adaptive.maximum:
                lane.adaptive.set_maximum(channel.rate_per_second)
                lane.set_rate(lane.adaptive.current, self._clock())
            if not stopped:
                lane.breaker.reset()
            lane.stopped, lane.channel = stopped, channel
            self.ring()

    async def _hand_over(self, connection: Connection) -> None:
        excess = await leases.surplus(connection, self.worker_id)
        draining = [lane for lane in self.lanes.values() if lane.draining]
        for lane in list(self.lanes.values()):
            if len(draining) >= excess:
                break
            if not lane.draining:
                lane.drain()
                draining.append(lane)
        ended = [lane for lane in draining if not lane.open]
        if ended:
            await leases.release(connection, self.worker_id, [lane.lease for lane in ended])
            for lane in ended:
                del self.lanes[lane.channel.workspace_id, lane.channel.id]
