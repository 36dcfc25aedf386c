"""Keeps the lanes' queues filled: one read for all streams that run low.

A stream is read on from where the last read ended, which costs the same however many rows wait or have died before it.
Ids are no cursor, though, since concurrent writers commit out of order. So every few seconds a stream is read from its
beginning, and what the lane holds already is left out.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pombo.sending.lane import MOST_INTENTS, Lane, Outgoing, Stream
from pombo.store import outbox
from pombo.store.database import Connection
from pombo.store.outbox import BEGINNING, Reading

# So long may a message wait that committed after, yet lies before, what was read. Reading it costs the rows held.
PASS_S = 10.0
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
        self.found_more = False
        """Whether the last read left some stream unfinished that still has room."""

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
        self.found_more = False
        if not wanting:
            return 0
        streams: list[Stream] = []
        readings: list[Reading] = []
        # Every lane gets a part of the statement's rows, so that the first of many does not starve the rest.
        most = max(LEAST_ROWS, ROWS_A_READ // len(wanting))
        for lane, room in wanting:
            hungry = [stream for stream in lane.streams.values() if stream.more]
            share = max(1, min(room, most) // len(hungry))
            for stream in hungry:
                limit = share
                if now - stream.pass_began > PASS_S:
                    stream.cursor, stream.pass_began = BEGINNING, now
                    # What is queued comes first, and what is being collected just now.
                    limit += len(stream.queue) + min(lane.open, MOST_INTENTS)
                channel = lane.channel
                readings.append(Reading(channel.workspace_id, channel.id, stream.run_id, *stream.cursor, limit))
                streams.append(stream)
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
        self.found_more = any(stream.more and self._room(stream.lane) for stream in streams)
        return len(rows)

    @staticmethod
    def _distribute(streams: list[Stream], readings: list[Reading], rows: list[tuple[Any, ...]]) -> None:
        found: list[list[Outgoing]] = [[] for _ in streams]
        counts = [0] * len(streams)
        for number, due_at, id, attempt, uncounted, recipient, variables in rows:
            stream = streams[number - 1]
            counts[number - 1] += 1
            stream.cursor = (due_at, id)
            # Held from an earlier read, or collected since this one began.
            if id not in stream.lane.waiting_ids:
                found[number - 1].append(Outgoing(id, attempt, uncounted, recipient, variables, stream))
        for stream, reading, messages, count in zip(streams, readings, found, counts, strict=True):
            if count >= reading.limit:
                stream.more = True
            lane = stream.lane
            if messages and not (lane.draining or lane.stopped) and lane.streams.get(stream.run_id) is stream:
                lane.waiting_ids.update(message.id for message in messages)
                lane.enqueue(stream, messages)
