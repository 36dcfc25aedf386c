"""One worker: its identity and heartbeat, the channels it has leased, and the life of their lanes."""

import asyncio
import contextlib
import math
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from pombo.domain.channels import ChannelState
from pombo.domain.classes import MessageClass, direct_stream
from pombo.domain.content import Content, ContentError
from pombo.domain.ids import WorkerId, WorkspaceId
from pombo.meta.payloads import CompiledPayload, compile_payload, messages_target
from pombo.meta.transport import RequestHead, Transport
from pombo.sending.breaker import Breaker
from pombo.sending.identity import Identity, clock
from pombo.sending.lane import Away, Lane
from pombo.sending.outcomes import OutcomeWriter
from pombo.sending.outgoing import Stream
from pombo.sending.pacer import TokenBucket
from pombo.sending.pauses import Acknowledger
from pombo.sending.reader import Reader, ReaderStats
from pombo.sending.resolver import Resolver
from pombo.sending.sender import Sender
from pombo.sending.stats import snapshot
from pombo.store import channels, leases, order, outbox
from pombo.store.channels import Channel
from pombo.store.database import TRY_AGAIN, Connection, Database
from pombo.store.errors import DatabaseUnavailable
from pombo.store.leases import Lease
from pombo.store.secrets import SecretBox, SecretError
from pombo.telemetry import log

# How often a worker looks for channels to take, hands over what is above its share, and tells of itself.
TEND_S = 1.0
# The bell (NOTIFY) wakes the reader at once; this is for what no bell was rung for.
POLL_S = 1.0
# Between two looks at which lanes run low; the fastest lane's read-ahead lasts several times as long.
LOOK_S = 0.01
_RETRY_S = 0.5
# Statements of intents under way at a time, besides those of replies.
SENDERS = 2
# Sockets that nothing but replies may use, as a part of all: at 80 ms each carries 12 replies a second.
REPLY_SOCKETS = 0.02
# Waiting and doubtful messages looked up in one round of `_tend`: has somebody else settled them?
LOOK_UP = 500
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
    answer_timeout_s: float = 30.0
    lease_s: float = 8.0
    breaker_enabled: bool = True
    breaker_threshold: int = 5
    breaker_timeout_s: float = 300.0
    outcome_batch: int = 200
    outcome_linger_s: float = 2.0


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
    ) -> None:
        """With `budget` it sends at most so many messages, with `workspace_id` those of one workspace."""
        self._database = database
        self._box = box
        self._options = options
        self._workspace_id = workspace_id
        self._name = worker_name(os.getpid())
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
            limit=2 * options.max_sockets,
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
        )
        self.sender.budget = budget
        self.resolver = Resolver(options.attempts)
        self._identities: list[Identity] = []
        """The present one, last, and former ones of which something is not over yet."""
        self.read_stats = ReaderStats()
        self._reader = Reader(self.read_stats, MessageClass.REPLY, MessageClass.BULK)
        self._reply_reader = Reader(self.read_stats, MessageClass.REPLY, MessageClass.REPLY)
        self._pauses = Acknowledger(self.lanes, self.transport)
        self._payloads: dict[tuple[int, int, str], CompiledPayload] = {}
        self._bell = asyncio.Event()
        self._reply_bell = asyncio.Event()
        self._lease_bell = asyncio.Event()
        self._stopping = False
        self._last_heartbeat = 0.0
        self._followed: tuple[int, int, int] | None = None
        """The leases that the lanes follow, if they follow all."""
        self._channels_seen: datetime | None = None
        self._clock = asyncio.get_running_loop().time

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
            self._reply_bell.set()
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
            for loop in (*[self.sender.run] * SENDERS, self.sender.run_replies)
        ]
        loops = [
            asyncio.create_task(self._again(self._tend), name="leases"),
            asyncio.create_task(self._again(self._read), name="reader"),
            asyncio.create_task(self._again(self._read_replies), name="reply reader"),
        ]
        stopped = asyncio.create_task(stop.wait(), name="stop")
        try:
            done, _ = await asyncio.wait([writing, *sending, *loops, stopped], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()  # a bug: end loudly
        finally:
            self._stopping = True
            stopped.cancel()
            await self._shut_down(writing, sending, loops)

    async def _shut_down(
        self, writing: asyncio.Task[None], sending: list[asyncio.Task[None]], loops: list[asyncio.Task[None]]
    ) -> None:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        beating = asyncio.create_task(self._keep_beating())
        self.sender.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await self.sender.drained()
        await self.transport.close()
        self.sender.give_back_armed()
        self.writer.close()
        done, _ = await asyncio.wait([writing], timeout=WRITE_GRACE_S)
        beating.cancel()
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
        for identity in self._identities:
            await identity.release()

    async def _again(self, loop: Callable[[Connection], Awaitable[None]]) -> None:
        """Runs a loop that needs the database, again whenever it was away."""
        while not self._stopping:
            try:
                async with self._database.borrow() as connection:
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
                await self._refresh_streams(connection)
                await self._pauses.look(connection, self.worker_id)
            await self._pauses.acknowledge(connection, self.worker_id)
            if await self._reader.fill(connection, self.lanes.values(), now):
                self.sender.wake()
            if self._reader.found_more:
                # Replies' readers and senders come first.
                await asyncio.sleep(0)
                continue
            patience = max(0.0, polled_at + POLL_S - self._clock())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(patience, LOOK_S) if self._pauses.waiting else patience):
                    await self.sender.hungry.wait()
                if not self._bell.is_set():
                    # Something was taken from some lane; looking at all of them each time is not worth it.
                    await asyncio.sleep(LOOK_S)

    async def _read_replies(self, connection: Connection) -> None:
        """As soon as the bell has named one; what no bell was rung for is found by `_read`."""
        while True:
            await self._reply_bell.wait()
            self._reply_bell.clear()
            while await self._reply_reader.fill(connection, self.lanes.values(), self._clock()):
                self.sender.wake_replies()
                if not self._reply_reader.found_more:
                    break

    async def _refresh_streams(self, connection: Connection) -> None:
        rows = await outbox.open_streams(connection, self.worker_id)
        wanted: dict[tuple[int, int], dict[int, int]] = {}
        for workspace_id, channel_id, run_id, message_class in rows:
            wanted.setdefault((workspace_id, channel_id), {})[run_id] = message_class
        for key, lane in list(self.lanes.items()):
            runs = wanted.get(key, {})
            if not runs and not lane.streams:
                continue
            for run_id in lane.streams.keys() - runs.keys():
                lane.drop_stream(run_id)
            for run_id in runs.keys() - lane.streams.keys():
                await self._open_stream(connection, lane, run_id, MessageClass(runs[run_id]))
            for stream in lane.streams.values():
                stream.more = True
        used = {(w, r) for w, _, r, _ in rows}
        for known in [known for known in self._payloads if known[:2] not in used]:
            del self._payloads[known]

    async def _open_stream(self, connection: Connection, lane: Lane, run_id: int, message_class: MessageClass) -> None:
        if run_id <= 0:
            lane.streams[run_id] = Stream(lane, run_id, None, message_class)
            return
        payload = await self._payload(connection, lane.channel, run_id)
        if payload is not None:
            limit = lane.media if payload.is_media else None
            lane.streams[run_id] = Stream(lane, run_id, payload, message_class, limit)

    async def _payload(self, connection: Connection, channel: Channel, run_id: int) -> CompiledPayload | None:
        key = (channel.workspace_id, run_id, channel.kind)
        payload = self._payloads.get(key)
        if payload is None:
            content = await outbox.run_content(connection, channel.workspace_id, run_id)
            if content is None:
                return None
            try:
                payload = compile_payload(channel.kind, _decode_content(content))
            except (ContentError, msgspec.DecodeError) as error:
                # Refused when the campaign was made; so this run was written past the API.
                log.error("run_content_refused", run=run_id, channel=channel.id, reason=str(error))
                return None
            self._payloads[key] = payload
        return payload

    # --- leases ---------------------------------------------------------------------------------------------------

    async def _tend(self, connection: Connection) -> None:
        while True:
            await self._beat(connection)
            await self._share_global_rate(connection)
            await leases.acquire(connection, self.worker_id, self._workspace_id)
            await self._follow_leases(connection)
            await self._hand_over(connection)
            await self._refresh_channels(connection)
            for workspace_id, channel_id, _ in await leases.take_commands(connection, self.worker_id):
                if lane := self.lanes.get((workspace_id, channel_id)):
                    lane.breaker.reset()
                    self.sender.wake()
            await leases.adopt_orphans(connection)
            await self.resolver.run_once(connection, self.worker_id)
            await self._release_former_identities()
            self.sender.tend()
            await self._keep_order(connection)
            await self._adapt_rates(connection)
            await leases.publish(connection, self.worker_id, snapshot(self, self._name))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(TEND_S, self._options.lease_s / 4)):
                    await self._lease_bell.wait()
            self._lease_bell.clear()

    async def _beat(self, connection: Connection) -> None:
        now, lease_s = self._clock(), self._options.lease_s
        if self.worker_id and now - self._last_heartbeat < lease_s / 4:
            return
        if self.worker_id and await self._renew(connection):
            self._last_heartbeat = now
            return
        if self.worker_id:
            log.warning("worker_expired", worker=self.worker_id)
        for lane in self.lanes.values():
            lane.drain()
            self._pauses.left(lane)
        self.lanes.clear()
        asked_at = clock()
        worker_id = await leases.register(
            connection, self._name, os.getpid(), lease_s, transient=self.sender.budget is not None
        )
        identity = await Identity.assume(self._database.url, worker_id)
        identity.renewed(asked_at, lease_s)
        self._identities.append(identity)
        self.sender.identity = identity
        self.worker_id = self.writer.worker_id = worker_id
        self._last_heartbeat = now
        log.info("worker_registered", worker=worker_id)

    async def _renew(self, connection: Connection) -> bool:
        asked_at, lease_s = clock(), self._options.lease_s
        if not await leases.heartbeat(connection, self.worker_id, lease_s):
            return False
        self._identities[-1].renewed(asked_at, lease_s)
        return True

    async def _release_former_identities(self) -> None:
        over = [identity for identity in self._identities[:-1] if not identity.open]
        self._identities = [identity for identity in self._identities if identity not in over]
        for identity in over:
            await identity.release()

    async def _share_global_rate(self, connection: Connection) -> None:
        """A slice each, leased with the heartbeat: live workers' slices never add up to more than the whole."""
        if self._options.global_rate is None:
            return
        pacer, even = self.sender.pacer, await leases.even_rate(connection, self._options.global_rate)
        if pacer is not None and pacer.rate > even:
            # Slower first, then the rest is free for others.
            pacer.set_rate(even, self._clock())
        rate = await leases.take_rate_slice(connection, self.worker_id, self._options.global_rate, even)
        if pacer is None:
            if rate > 0:
                self.sender.pacer = TokenBucket(rate, self._clock())
        elif 0 < rate != pacer.rate:
            pacer.set_rate(rate, self._clock())

    async def _keep_beating(self) -> None:
        """While stopping: what is in flight must not look like a dead worker's."""
        while True:
            with contextlib.suppress(DatabaseUnavailable):
                async with self._database.borrow() as connection:
                    await self._renew(connection)
            await asyncio.sleep(self._options.lease_s / 4)

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
        attempted = await order.attempted(connection, self.worker_id, missing)
        learned = await leases.learned_rates(connection, self.worker_id)
        for channel in await channels.get_channels(connection, missing):
            key = (channel.workspace_id, channel.id)
            head = await self._head(connection, channel)
            if head is not None:
                lane = self._lane(channel, owned[key], head, learned.get(key, channel.rate_per_second))
                for message in attempted:
                    if (message.workspace_id, message.channel_id) == key:
                        until = self._clock() + lane.grace_s - message.age_s if message.doubtful else None
                        lane.hold(message.message_id, Away(message.recipient, message.message_class, until))
                self.lanes[key] = lane
        if taken := len(missing & self.lanes.keys()):
            log.info("channels_taken", worker=self.worker_id, count=taken)
            self.ring()

    def _lane(self, channel: Channel, lease: Lease, head: RequestHead, rate: float) -> Lane:
        options = self._options
        lane = Lane(
            channel,
            lease,
            head,
            TokenBucket(min(channel.rate_per_second, rate), self._clock()),
            Breaker(options.breaker_threshold, options.breaker_timeout_s, options.breaker_enabled),
        )
        lane.stopped = channel.state is ChannelState.STOPPED
        return lane

    async def _head(self, connection: Connection, channel: Channel) -> RequestHead | None:
        """None, and the channel stopped, when its token cannot be read: others must not suffer for it."""
        try:
            token = self._box.open(channel.workspace_id, channel.token)
        except SecretError as error:
            if channel.state is ChannelState.ACTIVE:  # else it is known, and looked at again each round
                log.error("channel_secret_unreadable", channel=channel.id)
            await channels.stop_channel(connection, channel.workspace_id, channel.id, "secret", str(error))
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
            if not lane.stop_saved or (channel == lane.channel and stopped == lane.stopped):
                continue
            if channel.token != lane.channel.token:
                head = await self._head(connection, channel)
                lane.head, stopped = head or lane.head, stopped or head is None
            if channel.rate_per_second != lane.adaptive.maximum:
                lane.adaptive.set_maximum(channel.rate_per_second)
                lane.pacer.set_rate(lane.adaptive.current, self._clock())
            if not stopped:
                lane.breaker.reset()
            lane.stopped, lane.channel = stopped, channel
            self.ring()

    async def _keep_order(self, connection: Connection) -> None:
        """Lets pass what waits behind a message that was settled by others, was paused, or has long been in doubt."""
        now = self._clock()
        suspects: dict[int, Lane] = {}
        for lane in self.lanes.values():
            if lane.away:
                # Those that hold somebody up are looked at each time, of the rest some.
                suspects |= dict.fromkeys(lane.holding(LOOK_UP), lane)
        if not suspects:
            return
        found = await order.states(connection, [(lane.channel.workspace_id, id) for id, lane in suspects.items()])
        for id, lane in suspects.items():
            away = lane.away.get(id)
            if away is None or (state := found.get(id)) == "s":
                continue
            if state in (None, "p") or (state == "u" and away.until is not None and away.until <= now):
                lane.let_pass([id])
            elif state == "r" and away.until is not None:
                # It is to be sent again after all.
                lane.away[id] = replace(away, until=None)
        self.sender.wake()

    async def _adapt_rates(self, connection: Connection) -> None:
        """Faster again where it is quiet; what was learnt is kept for the next owner."""
        now = self._clock()
        learned = []
        for lane in self.lanes.values():
            if lane.adaptive.quiet(now):
                lane.pacer.set_rate(lane.adaptive.current, now)
                if lane.adaptive.learned is None:
                    log.info("rate_restored", channel=lane.channel.id, rate=lane.adaptive.current)
            if lane.learned != (rate := lane.adaptive.learned):
                lane.learned = rate
                learned.append((lane.lease, rate))
        if learned:
            await leases.keep_learned_rates(connection, learned)

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
