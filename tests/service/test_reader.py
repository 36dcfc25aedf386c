"""What is read ahead when some of it cannot leave."""

import asyncio
import random
from datetime import datetime, timedelta

import pytest

from pombo.domain.channels import ChannelKind
from pombo.domain.classes import MessageClass
from pombo.sending import class_queue, reader
from pombo.sending.breaker import BreakerState
from pombo.sending.lane import Lane
from pombo.sending.outgoing import Outgoing, Stream
from pombo.sending.pairs import PAIR_BURST
from pombo.sending.reader import Reader, ReaderStats
from pombo.sending.streams import Streams
from pombo.store import leases, outbox
from pombo.store.database import Connection, Database
from pombo.store.outbox import OpenStreams
from tests.seeding import SeededRun, add_run
from tests.store.conftest import Tenant, tenant
from tests.unit.test_lane import PAYLOAD, make_lane

__all__ = ["tenant"]  # a fixture


def lane_for(tenant: Tenant, run: SeededRun, message_class: MessageClass, kind: ChannelKind) -> Lane:
    lane = make_lane(kind=kind)
    assert (lane.channel.workspace_id, lane.channel.id) == tuple(tenant)
    lane.streams[run.run_id] = Stream(lane, run.run_id, PAYLOAD, message_class)
    return lane


async def run_to(database: Database, tenant: Tenant, *recipients: str) -> SeededRun:
    return await add_run(database, tenant.workspace_id, [(tenant.channel_id, to) for to in recipients])


async def read(database: Database, read_for: Reader, *lanes: Lane, now: float = 1.0) -> None:
    """Until nothing more is found."""
    async with asyncio.timeout(10), database.borrow() as connection:
        while True:
            await read_for.fill(connection, lanes, now)
            if not read_for.found_more:
                return


async def test_replies_delayed_by_the_pair_limit_do_not_hide_later_ones(database: Database, tenant: Tenant) -> None:
    people = [f"+1415555{n:04}" for n in range(reader.REPLIES_AHEAD + 1)]
    run = await run_to(database, tenant, *people)
    lane = lane_for(tenant, run, MessageClass.REPLY, ChannelKind.WHATSAPP)
    assert lane.pairs is not None
    for person in people[:-1]:
        for _ in range(PAIR_BURST):
            assert lane.pairs.take(person, 1.0) == 0.0
    replies = Reader(ReaderStats(), MessageClass.REPLY, MessageClass.REPLY)
    await read(database, replies, lane)
    assert lane.take(100, 1.0) == []

    await read(database, replies, lane)

    assert [message.recipient for message in lane.take(100, 1.0)] == people[-1:]


@pytest.mark.parametrize("why", ["throttled", "breaker open"])
async def test_a_channel_that_may_send_nothing_for_long_leaves_the_room_to_others(
    database: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(reader, "MOST_HELD", 10)
    run = await run_to(database, tenant, *map(str, range(50)))
    idle, healthy = (lane_for(tenant, run, MessageClass.BULK, ChannelKind.MESSENGER) for _ in range(2))
    bulk = Reader(ReaderStats(), MessageClass.REPLY, MessageClass.BULK)
    await read(database, bulk, idle)
    flying = idle.take(1, 1.0)
    assert len(idle.waiting_ids) == 50
    if why == "throttled":
        idle.resume_at = 3600.0
    else:
        idle.breaker.take_over(5, "away", 300.0, 1.0)

    await read(database, bulk, idle, healthy)

    assert idle.waiting_ids == {flying[0].id}
    assert healthy.buffered == 50


async def test_what_a_blocked_channel_holds_is_kept_while_there_is_room(database: Database, tenant: Tenant) -> None:
    run = await run_to(database, tenant, *map(str, range(50)))
    lane = lane_for(tenant, run, MessageClass.BULK, ChannelKind.MESSENGER)
    bulk = Reader(ReaderStats(), MessageClass.REPLY, MessageClass.BULK)
    await read(database, bulk, lane)
    lane.resume_at = 3600.0
    await read(database, bulk, lane)
    assert lane.buffered == 50


async def test_soon_before_a_channel_may_send_again_a_little_is_read_for_its_probe(
    database: Database, tenant: Tenant
) -> None:
    run = await run_to(database, tenant, *map(str, range(50)))
    lane = lane_for(tenant, run, MessageClass.BULK, ChannelKind.MESSENGER)
    lane.breaker.take_over(5, "away", 300.0, 1.0)
    bulk = Reader(ReaderStats(), MessageClass.REPLY, MessageClass.BULK)
    await read(database, bulk, lane, now=1.0)
    assert lane.buffered == 0
    await read(database, bulk, lane, now=299.0)
    assert lane.buffered == reader.LEAST_ROWS
    assert len(lane.take(50, 301.0)) == 1
    assert lane.breaker.state is BreakerState.HALF_OPEN


@pytest.mark.parametrize("seed", range(4))
async def test_what_had_no_room_behind_others_to_its_recipient_leaves_later_in_order(
    database: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(class_queue, "MOST_PARKED_EACH", 3)
    monkeypatch.setattr(class_queue, "MOST_PARKED", 5)
    monkeypatch.setattr(reader, "ROWS_A_READ", 20)
    chance = random.Random(seed)
    flooded = [chance.choice(["ana", "bob", "cem"]) for _ in range(120)]
    run = await run_to(database, tenant, *flooded, *(f"other {n}" for n in range(60)))
    lane = lane_for(tenant, run, MessageClass.BULK, ChannelKind.MESSENGER)
    bulk = Reader(ReaderStats(), MessageClass.TRANSACTIONAL, MessageClass.BULK)
    flying: list[Outgoing] = []
    left: list[Outgoing] = []
    async with asyncio.timeout(20), database.borrow() as connection:
        for now in range(2, 800):
            await bulk.fill(connection, [lane], float(now))
            flying += (taken := lane.take(chance.randint(1, 20), float(now)))
            left += taken
            chance.shuffle(flying)
            for message in flying[: chance.randint(0, len(flying))]:
                flying.remove(message)
                await connection.execute("DELETE FROM outbox WHERE id = $1", message.id)
                lane.open -= 1
                lane.waiting_ids.discard(message.id)
                lane.release(message)
            lane.streams[run.run_id].more |= now % 5 == 0  # a poll
    assert len(left) == len(flooded) + 60
    assert [message.recipient for message in left[:20]] != flooded[:20]
    for person in {message.recipient for message in left}:
        theirs = [message.id for message in left if message.recipient == person]
        assert theirs == sorted(theirs)


async def test_after_the_databases_clock_was_put_back_what_is_due_by_it_is_read(
    database: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By more than a pass goes back: else what is written from then on would lie before all that is looked at."""
    run = await run_to(database, tenant, "first")
    lane = lane_for(tenant, run, MessageClass.REPLY, ChannelKind.MESSENGER)
    replies = Reader(ReaderStats(), MessageClass.REPLY, MessageClass.REPLY)
    streams = Streams({tenant: lane})
    put_back, by_the_clock = timedelta(0), outbox.open_streams

    async def by_that_clock(connection: Connection, worker_id: int) -> OpenStreams:
        at, found = await by_the_clock(connection, worker_id)
        return OpenStreams(at and at - put_back, found)

    async with database.borrow() as connection:
        worker_id = await leases.register(connection, "test", 1, 600.0)
        await leases.acquire(connection, worker_id)
        monkeypatch.setattr("pombo.sending.streams.outbox.open_streams", by_that_clock)
        planned = await connection.fetchval("SELECT due_at FROM outbox")

        async def enqueued(recipient: str, due_at: datetime, now: float) -> list[str]:
            await connection.execute(
                """INSERT INTO outbox (workspace_id, id, channel_id, run_id, due_at, recipient)
                   VALUES ($1, nextval('message_ids'), $2, $3, $4, $5)""",
                *tenant, run.run_id, due_at, recipient,
            )  # fmt: skip
            await streams.refresh(connection, worker_id)
            await read(database, replies, lane, now=now)
            taken = lane.take(100, now)
            for message in taken:
                lane.open -= 1
                lane.waiting_ids.discard(message.id)
                lane.release(message)
                await connection.execute("DELETE FROM outbox WHERE id = $1", message.id)
            return [message.recipient for message in taken]

        assert await enqueued("second", planned, 1.0) == ["first", "second"]
        for now in range(2, 200):
            assert await enqueued(str(now), planned + timedelta(microseconds=now), float(now)) == [str(now)]
        put_back = timedelta(minutes=5)
        assert await enqueued("after", planned - put_back, 200.0) == ["after"]
