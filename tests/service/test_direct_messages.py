"""Direct messages: queued by the API, sent before campaigns, in order to each recipient."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pombo.domain.classes import MessageClass
from pombo.domain.content import Text
from pombo.sending import holding
from pombo.sending.breaker import BreakerState
from pombo.sending.lane import Lane
from pombo.sending.worker import Worker
from pombo.store import direct, leases
from tests.seeding import add_channel
from tests.service.test_worker import Setting, options, setting, until, working

__all__ = ["options", "setting"]  # fixtures


async def say(setting: Setting, text: str, to: str = "10001", kind: MessageClass = MessageClass.REPLY) -> int:
    async with setting.database.transaction() as connection:
        return await direct.enqueue(
            connection,
            workspace_id=setting.workspace,
            channel_id=setting.channel,
            message_class=kind,
            recipient=to,
            content=Text(text),
        )


async def accepted(worker: Worker, setting: Setting, count: int) -> list[dict[str, Any]]:
    """The ledger's messages, in the order of acceptance, once there are so many."""
    async with asyncio.timeout(20):
        worker.saved.clear()
        while len(found := await setting.sandbox.messages()) < count:
            worker.ring()
            await worker.saved.wait()
            worker.saved.clear()
    return found


async def test_a_reply_overtakes_all_that_waits_of_a_campaign(setting: Setting) -> None:
    await add_channel(setting.database, setting.box, setting.workspace, setting.page, rate=50.0)
    await setting.run(200)
    async with working(setting.database, setting.box, setting.options) as worker:
        await accepted(worker, setting, 5)
        before = len(await setting.sandbox.messages())
        await say(setting, "Here I am", to="77")
        found = await accepted(worker, setting, before + 20)
    place = next(n for n, message in enumerate(found) if message["recipient"] == "77")
    # What was on its way when the reply came, a tenth of a second's worth, may be before it.
    assert place - before <= 15


async def test_replies_do_not_wait_for_others_that_are_not_answered(setting: Setting) -> None:
    await setting.sandbox.configure(latency_ms=4_000.0)
    few = dataclasses.replace(setting.options, max_sockets=4, concurrency=3)
    await setting.run(20)
    async with working(setting.database, setting.box, few) as worker, asyncio.timeout(20):
        while await setting.value("SELECT count(*) FROM outbox WHERE state = 's'") < 3:
            await asyncio.sleep(0)
        await setting.sandbox.configure(latency_ms=0.0)
        # The stream was not open: no bell names it. The second waits for the first.
        ids = [await say(setting, text, to="77") for text in ("1", "2")]
        worker.ring()
        worker.saved.clear()
        while await setting.value("SELECT count(*) FROM deliveries") < 2:
            await worker.saved.wait()
            worker.saved.clear()
        assert await setting.value("SELECT array_agg(id ORDER BY id) FROM deliveries") == ids


async def test_messages_to_one_recipient_leave_in_the_order_in_which_they_were_queued(setting: Setting) -> None:
    await setting.sandbox.configure(latency_ms=5.0, latency_jitter_ms=20.0)
    ids = [await say(setting, f"{n}", kind=MessageClass.TRANSACTIONAL) for n in range(30)]
    async with working(setting.database, setting.box, setting.options) as worker:
        found = await accepted(worker, setting, 30)
    assert [int(message["key"].split(".")[1]) for message in found] == ids


async def test_order_holds_through_retries_and_a_new_owner(setting: Setting) -> None:
    phone = await setting.sandbox.add_phone(await setting.sandbox.add_app(), messages_per_second=None)
    channel = await add_channel(setting.database, setting.box, setting.workspace, phone)
    other = Setting(setting.database, setting.box, setting.sandbox, setting.workspace, phone, channel, setting.options)
    # 131056 concerns this recipient alone; it passes after the first attempt.
    await setting.fault(kind="error", code=131056, http_status=400, recipient="14155550001", max_count=1)
    first = await say(other, "1", to="+14155550001", kind=MessageClass.TRANSACTIONAL)
    async with working(setting.database, setting.box, setting.options) as worker, asyncio.timeout(20):
        worker.saved.clear()
        while await setting.value("SELECT count(*) FROM retries") == 0:
            await worker.saved.wait()
            worker.saved.clear()
    second = await say(other, "2", to="+14155550001", kind=MessageClass.TRANSACTIONAL)
    async with working(setting.database, setting.box, setting.options) as worker:
        found = await accepted(worker, other, 2)
    assert [int(message["key"].split(".")[1]) for message in found] == [first, second]
    assert await setting.value("SELECT count(*) FROM retries") == 0


async def test_a_doubtful_message_holds_the_later_one_until_it_is_settled(setting: Setting) -> None:
    await setting.fault(kind="lost_answer", recipient="10001", max_count=1)
    await say(setting, "1")
    await say(setting, "2")
    async with working(setting.database, setting.box, setting.options) as worker:
        async with asyncio.timeout(20):
            worker.saved.clear()
            while await setting.value("SELECT count(*) FROM doubts") == 0:
                await worker.saved.wait()
                worker.saved.clear()
        run = await setting.run(2)  # a campaign's messages to the same person do not wait
        worker.ring()
        await until(worker, setting.database, run, lambda f: f.get("accepted") == 2)
        lane = next(iter(worker.lanes.values()))
        assert sum(queue.parked_count for queue in lane.queues) >= 1
        # Its echo: the settlement takes it out of the outbox.
        await setting.value("DELETE FROM outbox WHERE state = 'u'")
        await setting.value("DELETE FROM doubts")
        worker.ring_leases()
        found = await accepted(worker, setting, 4)
    assert [m["recipient"] for m in found].count("10001") == 3


@asynccontextmanager
async def read_and_not_sent(setting: Setting) -> AsyncIterator[tuple[Worker, list[int]]]:
    """A worker whose lane holds two messages to one person; it sends when the block ends."""
    ids = [await say(setting, f"{n}", kind=MessageClass.TRANSACTIONAL) for n in range(2)]
    async with working(setting.database, setting.box, setting.options) as worker, asyncio.timeout(20):
        lane = await lane_of(worker)
        # As while a probe is under way.
        lane.breaker.state, lane.breaker.probe = BreakerState.HALF_OPEN, 0
        while not lane.waiting_ids.issuperset(ids):
            worker.ring()
            await asyncio.sleep(0)
        yield worker, ids


async def lane_of(worker: Worker) -> Lane:
    while not worker.lanes:
        await asyncio.sleep(0)
    return next(iter(worker.lanes.values()))


async def refused(worker: Worker, message_id: int) -> Lane:
    """Lets go on; returns when the message was refused its intent."""
    lane = await lane_of(worker)
    lane.breaker.reset()
    worker.sender.wake()
    while message_id in lane.waiting_ids:
        await asyncio.sleep(0)
    return lane


async def test_a_message_that_was_tried_since_it_was_read_still_goes_before_the_next(setting: Setting) -> None:
    async with read_and_not_sent(setting) as (worker, ids):
        later = "attempt = 1, due_at = now() + interval '1 hour'"
        await setting.value(f"UPDATE outbox SET {later} WHERE id = {ids[0]}")
        await refused(worker, ids[0])
        await setting.value(f"UPDATE outbox SET due_at = now() WHERE id = {ids[0]}")
        found = await accepted(worker, setting, 2)
    assert [int(message["key"].split(".")[1]) for message in found] == ids


async def test_what_was_settled_since_it_was_read_lets_the_next_pass(setting: Setting) -> None:
    async with read_and_not_sent(setting) as (worker, ids):
        await setting.value(f"DELETE FROM outbox WHERE id = {ids[0]}")
        await refused(worker, ids[0])
        worker.ring_leases()
        (found,) = await accepted(worker, setting, 1)
    assert int(found["key"].split(".")[1]) == ids[1]


async def test_what_came_into_doubt_since_it_was_read_holds_the_next_for_the_grace(setting: Setting) -> None:
    async with read_and_not_sent(setting) as (worker, ids):
        doubt = "attempt = 1, due_at = 'infinity', intent_at = now()"
        await setting.value(f"UPDATE outbox SET state = 'u', {doubt} WHERE id = {ids[0]}")
        lane = await refused(worker, ids[0])
        now = asyncio.get_running_loop().time()
        async with setting.database.borrow() as connection:
            await holding.let_pass(connection, [lane], now)
            assert lane.away[ids[0]].until is not None
            await holding.let_pass(connection, [lane], now + lane.grace_s + 1.0)
        worker.sender.wake()
        (found,) = await accepted(worker, setting, 1)
    assert int(found["key"].split(".")[1]) == ids[1]


async def test_a_content_written_past_the_api_fails_alone(setting: Setting) -> None:
    message_id = await say(setting, "fine")
    await setting.value(f'UPDATE outbox SET content = \'{{"type": "text"}}\' WHERE id = {message_id}')
    await say(setting, "fine", to="10002")
    async with working(setting.database, setting.box, setting.options) as worker, asyncio.timeout(20):
        worker.saved.clear()
        while await setting.value("SELECT count(*) FROM outbox"):
            await worker.saved.wait()
            worker.saved.clear()
    rows = "SELECT array_agg(recipient || ' ' || coalesce(error_title, 'sent') ORDER BY recipient) FROM deliveries"
    assert await setting.value(rows) == ["10001 content_invalid", "10002 sent"]


async def test_silent_streams_are_closed_and_opened_again(setting: Setting) -> None:
    await say(setting, "1")
    async with setting.database.borrow() as connection:
        await connection.execute("UPDATE streams SET touched_at = now() - interval '1 hour'")
        assert await direct.close_silent_streams(connection) == 0
        await connection.execute("DELETE FROM outbox")
        assert await direct.close_silent_streams(connection) == 1
    await say(setting, "2")
    assert await setting.value("SELECT count(*) FROM streams WHERE state = 'open' AND class = 0") == 1


# --- the global rate ------------------------------------------------------------------------------------------------


async def test_slices_of_the_global_rate_never_add_up_to_more_than_the_whole(setting: Setting) -> None:
    async with setting.database.borrow() as connection:
        one = await leases.register(connection, "one", 1, 60.0)
        assert await leases.take_rate_slice(connection, one, 90.0, await leases.even_rate(connection, 90.0)) == 90.0
        two = await leases.register(connection, "two", 1, 60.0)
        even = await leases.even_rate(connection, 90.0)
        assert even == 45.0
        assert await leases.take_rate_slice(connection, two, 90.0, even) == 0.0
        assert await leases.take_rate_slice(connection, one, 90.0, even) == 45.0
        assert await leases.take_rate_slice(connection, two, 90.0, even) == 45.0
        await leases.retire(connection, one)
        assert await leases.take_rate_slice(connection, two, 90.0, await leases.even_rate(connection, 90.0)) == 90.0
