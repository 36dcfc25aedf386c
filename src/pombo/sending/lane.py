"""A lane: the one place that sends for one channel, and what it holds in memory."""

from collections import deque
from collections.abc import Iterable
from datetime import date, datetime

from pombo.meta.payloads import CompiledPayload
from pombo.meta.transport import RequestHead
from pombo.sending.breaker import Breaker
from pombo.sending.identity import Identity
from pombo.sending.pacer import TokenBucket
from pombo.store.channels import Channel
from pombo.store.leases import Lease
from pombo.store.outbox import BEGINNING

# What a lane reads ahead: two seconds' worth, so that reading (a few milliseconds) is never what it waits for; no more
# than bounds its memory, no less than makes a read worth its round trip.
READ_AHEAD_S = 2.0
LEAST_READ_AHEAD = 50
MOST_READ_AHEAD = 4000
# One statement's intents: 500 take some 5 ms of database time, short against the pacing of any channel.
MOST_INTENTS = 500


class Outgoing:
    """A message in the lane's hands."""

    __slots__ = ("attempt", "id", "intent", "recipient", "stream", "uncounted", "variables")

    def __init__(
        self, id: int, attempt: int, uncounted: int, recipient: str, variables: str | None, stream: "Stream"
    ) -> None:
        self.id = id
        self.attempt = attempt
        """Attempts made so far; from the intent on, the number of this one."""
        self.uncounted = uncounted
        self.recipient = recipient
        self.variables = variables
        """JSON text, read only if the content has variables."""
        self.stream = stream
        self.intent: Intent | None = None


class Intent:
    """One stored batch of intents; forgotten when the outcomes of all its messages are saved."""

    __slots__ = ("day", "id", "identity", "open")

    def __init__(self, id: int, identity: Identity, day: date, open: int) -> None:
        self.id = id
        self.identity = identity
        self.day = day
        """UTC; part of the send keys."""
        self.open = open


class Stream:
    """One run's messages on this channel: read ahead in order, by its own cursor."""

    __slots__ = ("cursor", "lane", "more", "pass_began", "payload", "queue", "run_id", "unsent")

    def __init__(self, lane: "Lane", run_id: int, payload: CompiledPayload) -> None:
        self.lane = lane
        self.run_id = run_id
        self.payload = payload
        self.queue: deque[Outgoing] = deque()
        self.cursor: tuple[datetime, int] = BEGINNING
        self.more = True
        """Whether reading may find something."""
        self.pass_began = float("-inf")
        """Loop time of the last read from the beginning."""
        self.unsent = 0
        """Messages that were collected and have neither left nor been given up: what a pause must wait for."""


class Lane:
    """Plain in-memory state, exact because the lease makes this the only sender of the channel."""

    __slots__ = (
        "accepted",
        "breaker",
        "buffered",
        "channel",
        "draining",
        "failed",
        "head",
        "lease",
        "leaving",
        "open",
        "pacer",
        "resume_at",
        "stop_saved",
        "stopped",
        "streams",
        "throttled",
        "turns",
        "waiting_ids",
    )

    def __init__(self, channel: Channel, lease: Lease, head: RequestHead, pacer: TokenBucket, breaker: Breaker) -> None:
        self.channel = channel
        self.lease = lease
        self.head = head
        self.pacer = pacer
        self.breaker = breaker
        self.streams: dict[int, Stream] = {}
        self.leaving: list[Stream] = []
        """Dropped streams of which something collected has not left yet."""
        self.turns: deque[Stream] = deque()
        """Streams with something queued, in the order of their turns."""
        self.buffered = 0
        self.open = 0
        """Messages between being collected and having their outcome saved."""
        self.waiting_ids: set[int] = set()
        """Ids queued or open: what a read from the beginning must leave out."""
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
        self.accepted = 0
        self.failed = 0

    @property
    def read_ahead(self) -> int:
        return int(min(MOST_READ_AHEAD, max(LEAST_READ_AHEAD, self.pacer.rate * READ_AHEAD_S)))

    def enqueue(self, stream: Stream, messages: Iterable[Outgoing]) -> None:
        if not stream.queue:
            self.turns.append(stream)
        before = len(stream.queue)
        stream.queue.extend(messages)
        self.buffered += len(stream.queue) - before

    def take(self, wanted: int, now: float) -> list[Outgoing]:
        """Up to `wanted` messages that may leave now: pacer, breaker and throttle permitting, streams in turn."""
        if self.draining or self.stopped or now < self.resume_at:
            return []
        allowed = self.breaker.allows(min(wanted, self.buffered), now)
        count = self.pacer.take(allowed, now)
        if not count:
            return []
        self.breaker.left(count)
        taken: list[Outgoing] = []
        turns = self.turns
        while len(taken) < count:
            # A round gives each stream an even part; what one does not use goes to the others in the next.
            share = max(1, (count - len(taken)) // len(turns))
            for _ in range(len(turns)):
                stream = turns.popleft()
                queue = stream.queue
                part = min(share, len(queue), count - len(taken))
                taken.extend(queue.popleft() for _ in range(part))
                stream.unsent += part
                if queue:
                    turns.append(stream)
        self.buffered -= count
        self.open += count
        return taken

    def wait(self, now: float) -> float | None:
        """Seconds until something may leave; None when an event must come first."""
        if self.draining or self.stopped or not self.buffered:
            return None
        if now < self.resume_at:
            return self.resume_at - now
        breaker_wait = self.breaker.wait(now)
        return None if breaker_wait is None else max(breaker_wait, self.pacer.wait(now))

    def drop_stream(self, run_id: int) -> None:
        """Forgets a stream that was closed or paused; what of it is open goes on."""
        stream = self.streams.pop(run_id, None)
        if stream is None:
            return
        if stream.unsent:
            self.leaving.append(stream)
        if not stream.queue:
            return
        self.turns.remove(stream)
        self.buffered -= len(stream.queue)
        self.waiting_ids.difference_update(message.id for message in stream.queue)
        stream.queue.clear()

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
