"""Keeps the lanes' queues filled: one read for all streams that run low.

A stream is read on from where the last read ended, which costs the same however many rows wait or have died before it.
Ids are no cursor, though, since concurrent writers commit out of order. So now and then a stream is read again from
where it was some time ago, and what the lane holds already is left out.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pombo.domain.classes import MessageClass
from pombo.sending.breaker import BreakerState
from pombo.sending.class_queue import ClassQueue
from pombo.sending.lane import MOST_INTENTS, Lane
from pombo.sending.outgoing import Outgoing, Stream
from pombo.store import outbox
from pombo.store.database import Connection
from pombo.store.outbox import Reading

# So long may a message wait that committed after, yet lies before, what was read. Reading it costs the rows held, of
# which there are few in the streams of direct messages.
PASS_S = {MessageClass.REPLY: 0.0, MessageClass.TRANSACTIONAL: 1.0, MessageClass.BULK: 10.0}
# A pass begins where the cursor was so long ago: what was not visible then, and has a smaller number, was written by a
# transaction that has lasted longer than the server lets one (a minute's statement, 3 s of idling). So even when
# nothing dead can be cleared away, because somebody holds a snapshot open, a pass costs the rows of this time.
SETTLED_S = 90.0
# One statement's rows: some 10 ms of database time, and as much of the loop's, which replies may have to wait for.
ROWS_A_READ = 5_000
# A lane's part of it at least; fewer are not worth their index descent.
LEAST_ROWS = 20
# Replies come one by one: this many of one channel at a time are read ahead.
REPLIES_AHEAD = 50
# Messages of one lane that a limit of single recipients or of a kind of content delays; above, it is not read on.
MOST_DELAYED = 2_000
# Of all lanes together, some 50 MB: a worker's memory does not grow with what is due.
MOST_HELD = 100_000
# A lane that may send nothing for longer (throttled, breaker open) is not read for, and gives up what it holds when
# that is needed for others.
SOON_S = 5.0


@dataclass(slots=True)
class ReaderStats:
    reads: int = 0
    rows: int = 0
    seconds: float = 0.0


class Reader:
    """For the classes from `first` on."""

    def __init__(self, stats: ReaderStats, first: MessageClass, last: MessageClass) -> None:
        self.stats = stats
        self._classes = range(first, last + 1)
        self.found_more = False
        """Whether the last read left some stream unfinished that still has room."""

    @staticmethod
    def _room(lane: Lane, queue: ClassQueue) -> int:
        """How many messages to read: nothing until half of the queue is used up."""
        reply = queue.message_class is MessageClass.REPLY
        target = REPLIES_AHEAD if reply else lane.read_ahead
        if lane.breaker.state is not BreakerState.CLOSED:
            # One of them is the probe, and nobody knows when the others follow.
            target = LEAST_ROWS
        if queue.buffered * 2 > target or queue.delayed_count >= MOST_DELAYED:
            return 0
        return target - queue.buffered

    def _wanting(self, lanes: Iterable[Lane], now: float) -> list[tuple[int, list[Stream]]]:
        """Room and streams of every class of every lane that runs low."""
        wanting = []
        held = 0
        idle: list[Lane] = []
        for lane in lanes:
            held += len(lane.waiting_ids)
            if not lane.streams or lane.draining or lane.stopped:
                continue
            if lane.blocked(now) > SOON_S:
                idle.append(lane)
                continue
            for message_class in self._classes:
                queue = lane.queues[message_class]
                # Here, where no read of this class is under way: what it brought would overtake what is read again.
                lane.read_again(queue, now)
                room = self._room(lane, queue)
                if room > 0 and (
                    hungry := [s for s in lane.streams.values() if s.more and s.message_class is queue.message_class]
                ):
                    wanting.append((room, hungry))
        for lane in idle:
            if held < MOST_HELD:
                break
            before = len(lane.waiting_ids)
            if before > lane.open:
                # As if it had been stopped: its streams are opened again within a second, and read when it may send.
                lane.drop_queues()
                held -= before - len(lane.waiting_ids)
        if held < MOST_HELD:
            return wanting
        return [(room, hungry) for room, hungry in wanting if hungry[0].message_class is MessageClass.REPLY]

    async def fill(self, connection: Connection, lanes: Iterable[Lane], now: float) -> int:
        """Reads for the lanes that run low; returns how many messages were found. Raises DatabaseUnavailable."""
        wanting = self._wanting(lanes, now)
        self.found_more = False
        if not wanting:
            return 0
        streams: list[Stream] = []
        readings: list[Reading] = []
        # Every lane gets a part of the statement's rows, so that the first of many does not starve the rest.
        most = max(LEAST_ROWS, ROWS_A_READ // len(wanting))
        for room, hungry in wanting:
            share = max(1, min(room, most) // len(hungry))
            for stream in hungry:
                streams.append(stream)
                readings.append(_reading(stream, share, now))
        for stream in streams:
            # Before the read, so that a bell rung while it is under way is not forgotten.
            stream.more = False
        began = time.perf_counter()
        try:
            rows = await outbox.read_ahead(connection, readings)
        except BaseException:
            for stream in streams:
                stream.more = True
            raise
        self.stats.seconds += time.perf_counter() - began
        self.stats.reads += 1
        self.stats.rows += len(rows)
        self._distribute(streams, readings, rows)
        self.found_more = any(s.more and self._room(s.lane, s.lane.queues[s.message_class]) for s in streams)
        return len(rows)

    @staticmethod
    def _distribute(streams: list[Stream], readings: list[Reading], rows: list[tuple[Any, ...]]) -> None:
        found: list[list[Outgoing]] = [[] for _ in streams]
        counts = [0] * len(streams)
        for number, due_at, id, attempt, uncounted, recipient, variables, content in rows:
            stream = streams[number - 1]
            counts[number - 1] += 1
            stream.cursor = (due_at, id)
            # Held from an earlier read, or collected since this one began.
            if id not in stream.lane.waiting_ids:
                found[number - 1].append(Outgoing(id, attempt, uncounted, recipient, variables, stream, content))
        for stream, reading, messages, count in zip(streams, readings, found, counts, strict=True):
            if count >= reading.limit:
                stream.more = True
            lane = stream.lane
            if messages and not (lane.draining or lane.stopped) and lane.streams.get(stream.run_id) is stream:
                lane.waiting_ids.update(message.id for message in messages)
                if lane.away:
                    for message in messages:
                        lane.came_back(message.id)
                lane.enqueue(stream, messages)


def _reading(stream: Stream, limit: int, now: float) -> Reading:
    lane = stream.lane
    if now - stream.pass_began >= PASS_S[stream.message_class]:
        stream.begin_pass(now, SETTLED_S)
        # What is in the lane's hands comes first: also what is parked, delayed, or being collected just now.
        queue = lane.queues[stream.message_class]
        limit += len(stream.queue) + queue.parked_count + queue.delayed_count + min(lane.open, MOST_INTENTS)
        if queue.overflows:
            limit = max(limit, ROWS_A_READ)
    return Reading(lane.channel.workspace_id, lane.channel.id, stream.run_id, *stream.cursor, limit)
