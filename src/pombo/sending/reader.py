"""Keeps the lanes' queues filled: one read for all streams that run low.

Ids are no cursor, since concurrent writers commit out of order. So a stream is read in passes: from the beginning
(leaving out what the lane holds), then from where the last read ended, which costs the same however many rows wait
before it; a read that comes back short ends the pass, and the next one begins anew.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pombo.sending.lane import Lane, Outgoing, Stream
from pombo.store import outbox
from pombo.store.database import Connection
from pombo.store.outbox import BEGINNING, Reading

# A pass through a long queue is broken off after so long, to find what committed late or came due before the cursor.
PASS_S = 30.0
# One statement's rows: some 20 ms of database time.
ROWS_A_READ = 10_000
# A lane's part of it at least; fewer are not worth their index descent.
LEAST_ROWS = 20


@dataclass(slots=True)
class ReaderStats:
    reads: int = 0
    rows: int = 0
    seconds: float = 0.0


class Reader:
    def __init__(self) -> None:
        self.stats = ReaderStats()

    def wants(self, lane: Lane) -> bool:
        return (
            not (lane.draining or lane.stopped)
            and any(stream.more for stream in lane.streams.values())
            and self._room(lane) > 0
        )

    @staticmethod
    def _room(lane: Lane) -> int:
        """How many messages to read: nothing until half of the queue is used up."""
        target = lane.read_ahead
        return target - lane.buffered if lane.buffered * 2 <= target else 0

    async def fill(self, connection: Connection, lanes: Iterable[Lane], now: float) -> int:
        """Reads for the lanes that run low; returns how many messages were found. Raises DatabaseUnavailable."""
        wanting = [(lane, room) for lane in lanes if (room := self._room(lane)) > 0 and self.wants(lane)]
        if not wanting:
            return 0
        streams: list[Stream] = []
        readings: list[Reading] = []
        held: list[int] = []
        # Every lane gets a part of the statement's rows, so that the first of many does not starve the rest.
        most = max(LEAST_ROWS, ROWS_A_READ // len(wanting))
        for lane, room in wanting:
            hungry = [stream for stream in lane.streams.values() if stream.more]
            share = max(1, min(room, most) // len(hungry))
            for stream in hungry:
                if stream.cursor != BEGINNING and now - stream.pass_began > PASS_S:
                    stream.cursor = BEGINNING
                if stream.cursor == BEGINNING:
                    stream.pass_began = now
                channel = lane.channel
                readings.append(Reading(channel.workspace_id, channel.id, stream.run_id, *stream.cursor, share))
                streams.append(stream)
            if any(stream.cursor == BEGINNING for stream in hungry):
                held.extend(lane.waiting_ids)
        for stream in streams:
            # Before the read, so that a bell rung while it is under way is not forgotten.
            stream.more = False
        began = time.perf_counter()
        try:
            rows = await outbox.read_ahead(connection, readings, held)
        except BaseException:
            for stream in streams:
                stream.more = True
            raise
        self.stats.seconds += time.perf_counter() - began
        self.stats.reads += 1
        self.stats.rows += len(rows)
        self._distribute(streams, readings, rows)
        return len(rows)

    @staticmethod
    def _distribute(streams: list[Stream], readings: list[Reading], rows: list[tuple[Any, ...]]) -> None:
        found: list[list[Outgoing]] = [[] for _ in streams]
        counts = [0] * len(streams)
        for number, due_at, id, attempt, uncounted, recipient, variables in rows:
            stream = streams[number - 1]
            counts[number - 1] += 1
            stream.cursor = (due_at, id)
            # A row may have been collected since the read began.
            if id not in stream.lane.waiting_ids:
                found[number - 1].append(Outgoing(id, attempt, uncounted, recipient, variables, stream))
        for stream, reading, messages, count in zip(streams, readings, found, counts, strict=True):
            if count < reading.limit:
                stream.cursor = BEGINNING
            else:
                stream.more = True
            lane = stream.lane
            if messages and not (lane.draining or lane.stopped) and lane.streams.get(stream.run_id) is stream:
                lane.waiting_ids.update(message.id for message in messages)
                lane.enqueue(stream, messages)
