"""A lane: the one place that sends for one channel, and what it holds in memory."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count, islice

from pombo.domain.channels import ChannelKind
from pombo.domain.classes import MessageClass
from pombo.meta.transport import RequestHead
from pombo.sending.adaptive import AdaptiveRate
from pombo.sending.breaker import Breaker, BreakerState
from pombo.sending.class_queue import ClassQueue
from pombo.sending.media_limit import MediaLimit
from pombo.sending.outgoing import Outgoing, Stream
from pombo.sending.pacer import TokenBucket, reserve_of
from pombo.sending.pairs import PairLimit
from pombo.store.channels import Channel
from pombo.store.leases import Lease

# What a lane reads ahead: two seconds' worth, so that reading (a few milliseconds) is never what it waits for; no more
# than bounds its memory, no less than makes a read worth its round trip.
READ_AHEAD_S = 2.0
LEAST_READ_AHEAD = 50
MOST_READ_AHEAD = 4000
# One statement's intents: so many that its own cost is shared, so few that answers and replies need not wait for the
# rendering of more. 500 are slower by a twentieth.
MOST_INTENTS = 250


@dataclass(frozen=True, slots=True)
class Away:
    """An attempted message that is not in the lane's hands: it waits for another attempt, or is in doubt."""

    recipient: str
    message_class: MessageClass
    until: float | None
    """A doubtful one holds the others until then (loop time); one that waits, for as long as it waits."""


class Lane:
    """Plain in-memory state, exact because the lease makes this the only sender of the channel."""

    __slots__ = (
        "_delayed",
        "_numbers",
        "accepted",
        "adaptive",
        "away",
        "breaker",
        "channel",
        "draining",
        "failed",
        "gate",
        "head",
        "learned",
        "lease",
        "leaving",
        "media",
        "open",
        "pacer",
        "pairs",
        "pausing",
        "queues",
        "resume_at",
        "stop_saved",
        "stopped",
        "streams",
        "throttled",
        "waiting_ids",
    )

    def __init__(self, channel: Channel, lease: Lease, head: RequestHead, pacer: TokenBucket, breaker: Breaker) -> None:
        self.channel = channel
        self.lease = lease
        self.head = head
        self.pacer = pacer
        self.gate = TokenBucket(pacer.rate, pacer.started)
        """The same rate once more, where messages leave: what was held up on its way there must not leave at once."""
        self.adaptive = AdaptiveRate(channel.rate_per_second, pacer.rate)
        self.breaker = breaker
        whatsapp = channel.kind is ChannelKind.WHATSAPP
        self.pairs = PairLimit() if whatsapp else None
        self.media = None if whatsapp else MediaLimit(pacer.started)
        self.streams: dict[int, Stream] = {}
        self.pausing: set[int] = set()
        """Runs that an error pauses, while the tables do not tell so yet: their streams are not opened."""
        self.leaving: list[Stream] = []
        """Dropped streams of which something collected has not left yet."""
        self.queues = tuple(ClassQueue(message_class) for message_class in MessageClass)
        self._delayed: list[tuple[float, int, Outgoing]] = []
        self._numbers = count()
        self.away: dict[int, Away] = {}
        """By message id."""
        self.open = 0
        """Messages between being collected and having their outcome saved."""
        self.waiting_ids: set[int] = set()
        """Ids in the lane's hands: what a read from the beginning must leave out."""
        self.resume_at = 0.0
        """Throttled until then (loop time)."""
        self.throttled = 0
        """Rate-limit answers in a row."""
        self.draining = False
        """Being handed over: nothing more leaves."""
        self.stopped = False
        """Stopped by an error of Meta's: nothing more leaves until somebody has acted."""
        self.stop_saved = True
        """Whether the channel's row tells so already."""
        self.learned = self.adaptive.learned
        """As the lease's row has it."""
        self.accepted = 0
        self.failed = 0

    @property
    def buffered(self) -> int:
        replies, transactional, bulk = self.queues
        return replies.buffered + transactional.buffered + bulk.buffered

    @property
    def is_notable(self) -> bool:
        """Whether there is more to tell than that it idles."""
        return bool(
            self.streams
            or self.open
            or self.stopped
            or self.breaker.failures
            or self.breaker.state is not BreakerState.CLOSED
            or self.adaptive.learned
        )

    @property
    def grace_s(self) -> float:
        """How long a doubtful message holds later ones to its recipient."""
        return self.channel.doubt_grace_s

    @property
    def has_messages(self) -> bool:
        return bool(self.buffered or self._delayed)

    @property
    def read_ahead(self) -> int:
        return int(min(MOST_READ_AHEAD, max(LEAST_READ_AHEAD, self.pacer.rate * READ_AHEAD_S)))

    def enqueue(self, stream: Stream, messages: Iterable[Outgoing]) -> None:
        self.queues[stream.message_class].enqueue(stream, messages)

    # --- taking ---------------------------------------------------------------------------------------------------

    def take(self, wanted: int, now: float, last: MessageClass = MessageClass.BULK) -> list[Outgoing]:
        """Up to `wanted` messages that may leave now, replies first, classes after `last` not at all.

        Pacer, breaker, throttle and limits of single recipients permitting.
        """
        if self.draining or self.stopped or now < self.resume_at:
            return []
        if self._delayed:
            self.put_back_delayed(now)
        allowed = self.breaker.allows(min(wanted, self.buffered), now)
        if not allowed:
            return []
        taken: list[Outgoing] = []
        for queue in self.queues[: last + 1]:
            if queue.buffered and len(taken) < allowed:
                taken += self._take_of(queue, min(allowed - len(taken), queue.buffered), now)
        if taken:
            self.breaker.let_go(taken[0].id)
        self.open += len(taken)
        return taken

    def _take_of(self, queue: ClassQueue, wanted: int, now: float) -> list[Outgoing]:
        tokens = self.pacer.take(wanted, now, reserve_of(queue.message_class))
        if not tokens:
            return []
        taken, delayed, forgotten = queue.take(tokens, now, self.pairs, self.media)
        if len(taken) < tokens:
            self.pacer.give_back(tokens - len(taken))
        for at, message in delayed:
            heapq.heappush(self._delayed, (at, next(self._numbers), message))
        self._forget(forgotten)
        return taken

    def read_again(self, queue: ClassQueue, now: float) -> None:
        """What had no room behind others to the same recipient is to be read again, once these have left."""
        self._forget(queue.read_again(now))

    def _forget(self, messages: list[Outgoing]) -> None:
        self.waiting_ids.difference_update(message.id for message in messages)

    def set_rate(self, rate: float, now: float) -> None:
        self.pacer.set_rate(rate, now)
        self.gate.set_rate(rate, now)

    def pass_gate(self, message: Outgoing, now: float) -> float:
        """0.0, and counted, when the message may leave now; else the seconds that it must wait."""
        reserve = reserve_of(message.stream.message_class)
        return 0.0 if self.gate.take(1, now, reserve) else self.gate.wait(now, reserve)

    def put_back_delayed(self, now: float) -> None:
        """Those that a limit of single recipients delayed until now."""
        while self._delayed and self._delayed[0][0] <= now:
            message = heapq.heappop(self._delayed)[2]
            queue = self.queues[message.stream.message_class]
            queue.delayed_count -= 1
            queue.put_back(message)

    def wait(self, now: float, last: MessageClass = MessageClass.BULK) -> float | None:
        """Seconds until something of the classes up to `last` may leave; None when an event must come first."""
        if self.draining or self.stopped:
            return None
        waits = [
            self.pacer.wait(now, reserve_of(queue.message_class)) for queue in self.queues[: last + 1] if queue.buffered
        ]
        if self._delayed and last is MessageClass.BULK:
            waits.append(max(0.0, self._delayed[0][0] - now))
        if not waits:
            return None
        if now < self.resume_at:
            return self.resume_at - now
        breaker_wait = self.breaker.wait(now)
        return None if breaker_wait is None else max(breaker_wait, min(waits))

    def blocked(self, now: float) -> float:
        """Seconds for which nothing at all may leave, whatever waits; 0.0 while only an outcome can tell."""
        return max(0.0, self.resume_at - now, self.breaker.wait(now) or 0.0)

    # --- order ----------------------------------------------------------------------------------------------------

    def release(self, message: Outgoing) -> None:
        """The message is settled: the next one to its recipient may leave."""
        self.queues[message.stream.message_class].release(message.recipient, message.id)

    def send_away(self, message: Outgoing, until: float | None = None) -> None:
        """It waits for another attempt (None), or is in doubt, for which the others wait until then at most."""
        self.hold(message.id, Away(message.recipient, message.stream.message_class, until))

    def hold(self, message_id: int, away: Away) -> None:
        """Later messages to the recipient wait, unless there is one in front of them already."""
        queue = self.queues[away.message_class]
        if queue.front.setdefault(away.recipient, message_id) == message_id:
            self.away[message_id] = away

    def came_back(self, message_id: int) -> None:
        """It was read for another attempt; it still stands in front."""
        self.away.pop(message_id, None)

    def let_pass(self, message_ids: Iterable[int]) -> None:
        """These hold the others no longer."""
        for message_id in message_ids:
            if (away := self.away.pop(message_id, None)) is not None:
                self.queues[away.message_class].release(away.recipient, message_id)

    def holding(self, most: int) -> list[int]:
        """Messages away that hold somebody up, and up to `most` of the others, those away for longest."""
        found = (
            [id for id, away in self.away.items() if self.queues[away.message_class].is_awaited(away.recipient)]
            if any(queue.parked or queue.overflows for queue in self.queues)
            else []
        )
        return found + list(islice(self.away, most))

    # --- streams --------------------------------------------------------------------------------------------------

    def drop_stream(self, run_id: int) -> None:
        """Forgets a stream that was closed or paused; what of it is open goes on."""
        stream = self.streams.pop(run_id, None)
        if stream is None:
            return
        if stream.unsent:
            self.leaving.append(stream)
        queue = self.queues[stream.message_class]
        dropped = queue.drop(stream)
        if self._delayed:
            mine = [entry[2] for entry in self._delayed if entry[2].stream is stream]
            self._delayed = [entry for entry in self._delayed if entry[2].stream is not stream]
            heapq.heapify(self._delayed)
            queue.delayed_count -= len(mine)
            for message in mine:
                queue.release(message.recipient, message.id)
            dropped += mine
        self._forget(dropped)

    @property
    def is_clear(self) -> bool:
        """Whether no send at all can start here, until a stream is opened."""
        self.leaving = [stream for stream in self.leaving if stream.unsent]
        return not self.streams and not self.leaving

    def is_clear_of(self, run_id: int) -> bool:
        """Whether no further send of the run can start here, until its stream is opened again."""
        self.leaving = [stream for stream in self.leaving if stream.unsent]
        return run_id not in self.streams and not any(stream.run_id == run_id for stream in self.leaving)

    def drain(self) -> None:
        """Nothing more leaves; what is open goes on."""
        self.draining = True
        self.drop_queues()

    def drop_queues(self) -> None:
        for run_id in list(self.streams):
            self.drop_stream(run_id)
